"""Which file systems are network ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from synth_cli.stores.filesystem import network_type

MOUNTS = """\
/dev/vda / ext4 rw,relatime 0 0
tmpfs /dev/shm tmpfs rw 0 0
server:/export /srv/team\\040data nfs4 rw,vers=4.2 0 0
/dev/vdb /srv/team\\040data/local xfs rw 0 0
me@host:/ /mnt/remote fuse.sshfs rw 0 0
/dev/sdb1 /mnt/disk fuseblk rw 0 0
//nas/share /mnt/re cifs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/job", None),
        ("/srv/team data/job", "nfs4"),
        ("/srv/team data/local/job", None),
        ("/mnt/remote/job", "fuse.sshfs"),
        ("/mnt/disk/job", None),
        ("/mnt/re", "cifs"),
        ("/mnt/rest", None),
    ],
)
def test_the_nearest_mount_decides(path: str, kind: str | None, tmp_path: Path) -> None:
    """A path belongs to the innermost mount that holds it."""
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert network_type(Path(path), mounts) == kind


def test_the_last_of_two_mounts_of_one_place_counts(tmp_path: Path) -> None:
    """What was mounted over a place hides what was there."""
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/vda / ext4 rw 0 0\n/dev/vdb /data ext4 rw 0 0\nserver:/x /data nfs rw 0 0\n")
    assert network_type(Path("/data/job"), mounts) == "nfs"


def test_a_system_that_does_not_say_is_taken_as_local(tmp_path: Path) -> None:
    """Without a list of mounts nothing is known to be a network."""
    assert network_type(Path("/data"), tmp_path / "missing") is None
