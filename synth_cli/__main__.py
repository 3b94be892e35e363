"""`python -m synth_cli` is `synth`."""

from synth_cli.cli.app import main

if __name__ == "__main__":
    main()
