"""Whether a path lies on a network file system, where SQLite's WAL and file locks cannot be relied on."""

from __future__ import annotations

import os
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
NETWORK = frozenset(
    {
        "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "beegfs", "ceph", "gfs2", "glusterfs", "gpfs", "lustre",
        "ncpfs", "ocfs2", "orangefs", "panfs", "pvfs2", "virtiofs", "vboxsf", "webdav",
    }
)  # fmt: skip
LOCAL_FUSE = frozenset({"fuse.ext4", "fuse.ntfs-3g", "fuseblk", "fuse.overlayfs", "fuse.fuse-overlayfs"})


def network_type(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The file system's name if it is a network one; None if it is local, or the system does not say."""
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    place = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        _, mount, found, *_ = line.split(" ")
        # spaces in mount points are written as octal escapes
        mount = mount.replace("\\040", " ").rstrip("/")
        if len(mount) >= len(best) and (place == mount or place.startswith(mount + "/")):
            best, kind = mount, found
    remote = kind in NETWORK or (kind.startswith("fuse.") and kind not in LOCAL_FUSE)
    return kind if remote else None
