"""Opening the files of a run directory.

These files decide what is read, written and computed in the user's name. So none of them is opened
through a symbolic link, and none is used that somebody else could have written. The checks are made
on the open file, so it cannot be swapped between check and use. The path to the run directory
itself may contain links.
"""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from blockwise_predict.errors import RunStateError

# Only the owner can change what is made here, whatever the umask.
FILE_MODE, FOLDER_MODE = 0o644, 0o755


def open_record(
    file: Path,
    flags: int,
    mode: int = FILE_MODE,
    *,
    trusted: bool = False,
    linked_folder: bool = True,
) -> int:
    """Open a regular file that is not a symbolic link; returns its descriptor.

    Raises RunStateError for anything else; unless it is `trusted`, also for a file or folder that
    others own or can write to; and without `linked_folder`, also if its folder is a link.
    """
    with _naming(file.parent):
        follow = 0 if linked_folder else os.O_NOFOLLOW
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | follow)
    try:
        if not trusted:
            check_own(os.fstat(folder), file.parent)
        with _naming(file):
            # O_NONBLOCK, so that opening a pipe does not wait for its other end.
            safe = flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(file.name, safe, mode, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise RunStateError(f"{file} is not a regular file. Remove it.")
        if not trusted:
            check_own(status, file)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn the errors of a link or a special file into RunStateError; add the path to others."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ELOOP or (error.errno == errno.ENOTDIR and path.is_symlink()):
            raise RunStateError(
                f"{path} is a symbolic link, and nothing in a run directory is reached through "
                "one. Remove it."
            ) from None
        if error.errno in (errno.ENXIO, errno.EISDIR):
            raise RunStateError(f"{path} is not a regular file. Remove it.") from None
        raise OSError(error.errno, error.strerror, str(path)) from None


def make_folder(path: Path) -> None:
    """Make a folder and its missing parents, writable by this user only."""
    if path.is_dir():
        return
    if path.parent != path:
        make_folder(path.parent)
    try:
        path.mkdir(FOLDER_MODE)
    except FileExistsError:
        if not path.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from None


def check_own(status: os.stat_result, path: Path) -> None:
    """Raise RunStateError if anybody but this user and root owns or can write to a file or folder.

    Group write access is fine if the group is the user's private one (as with a umask of 002).
    """
    me = os.geteuid()
    access = f"mode {stat.S_IMODE(status.st_mode):04o}, owner {_user(status.st_uid)}"
    if status.st_uid not in (me, 0):
        raise RunStateError(
            f"{path} belongs to {_user(status.st_uid)}, not to you ({_user(me)}): it could make "
            "this command do what somebody else wants. If you trust its owner, and everybody who "
            "can write there, as yourself, pass --trust-run-dir."
        )
    if status.st_mode & stat.S_IWOTH:
        who = "everybody"
    elif status.st_mode & stat.S_IWGRP and not _is_private(status.st_gid, (me, 0)):
        who = f"the group {_group(status.st_gid)}"
    else:
        return
    raise RunStateError(
        f"{path} can be written by {who} ({access}): it could make this command do what somebody "
        f"else wants. If nobody has changed it, revoke that right: chmod -R go-w {path}. Or, if "
        "you trust everybody who can write there as yourself, pass --trust-run-dir."
    )


def _is_private(gid: int, users: tuple[int, ...]) -> bool:
    """Whether a group is the private group of one of these users, with no other member."""
    for uid in users:
        try:
            user, group = pwd.getpwuid(uid), grp.getgrgid(gid)
        except KeyError:
            continue
        own = user.pw_gid == gid and group.gr_name == user.pw_name
        if own and set(group.gr_mem) <= {user.pw_name}:
            return True
    return False


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
