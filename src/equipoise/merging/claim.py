"""The place of a folder that is to be written: free, and claimed while it is made beside it."""

import errno
import os
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path

_LOCK = "lock"
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)


def vacant(out: str | Path) -> Path:
    """The whole path of a folder that can be made, or is empty and can be replaced.

    Raises FileExistsError where something is there that cannot be replaced; NotADirectoryError or
    PermissionError where no folder can be made.
    """
    folder = Path(out).resolve()
    if folder.exists():
        if not folder.is_dir() or any(folder.iterdir()):
            raise FileExistsError(f"{out} exists already; name a new folder")
        if folder == Path.cwd() or folder.is_mount():
            raise FileExistsError(f"{out} is the working folder or a mount point; name a new folder in it")
    parent = next(one for one in folder.parents if one.exists())
    if not parent.is_dir():
        raise NotADirectoryError(f"{out}: {parent} is a file; name a new folder elsewhere")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{out}: {parent} may not be written; name a new folder elsewhere")
    return folder


class Claim:
    """A locked folder beside `folder`, in which that is made; one thread of one process holds it at a time.

    The system takes the lock from a process that ends; what such a one left is removed by the next.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder.with_name(f".{folder.name}.part")
        self._lock: int | None = None

    def take(self) -> Path:
        """A new folder in it, to be moved to its own place. Raises FileExistsError where another has it."""
        while self._lock is None:
            self._lock = self._locked()
        if self._model.exists():
            shutil.rmtree(self._model)
        self._model.mkdir()
        return self._model

    def release(self) -> None:
        """Remove it with all that is in it, also where `take` was stopped half-way; not if another has it."""
        if self._lock is None:
            with suppress(FileExistsError):
                self._lock = self._locked()
        if self._lock is None:
            return
        shutil.rmtree(self._model, ignore_errors=True)
        (self.path / _LOCK).unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None
        with suppress(OSError):  # the next one has it
            self.path.rmdir()

    @property
    def _model(self) -> Path:
        return self.path / "model"

    def _locked(self) -> int | None:
        """The lock, as an open file; None where its holder has just removed it."""
        import fcntl  # not on all systems

        new = not self.path.exists()
        self.path.mkdir(exist_ok=True)
        try:
            file = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            return None
        with ExitStack() as stack:
            stack.callback(os.close, file)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FileExistsError(f"{self.folder} is being written already") from None
            except OSError as error:
                if error.errno not in _NO_LOCKS or not new:  # having made the folder is a lock too
                    words = f"{self.path} cannot be locked ({error}); remove it if no merge is running"
                    raise FileExistsError(words) from error
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file), (self.path / _LOCK).stat()):
                    stack.pop_all()
                    return file
        return None
