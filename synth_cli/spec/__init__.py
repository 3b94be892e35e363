"""The language: what a spec may say (`model`), and how a file becomes one (`load`)."""
