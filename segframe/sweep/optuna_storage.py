"""Where Optuna keeps the study of a sweep: a file in the sweep folder, or a database."""

from __future__ import annotations

import fcntl
import os
import re
import warnings
from pathlib import Path
from typing import Any

from segframe.config.options import ConfigError
from segframe.sweep.folder import STUDY_FILE
from segframe.sweep.request import without_password

_TIMEOUT_S = 5  # a database that has not answered by then is not there
_TIMEOUTS = {"postgresql": "connect_timeout", "mysql": "connect_timeout", "mariadb": "connect_timeout"}
_PACKAGES = {"MySQLdb": "mysqlclient"}  # where a package is called otherwise than its module
_INSTALL = "pip install 'segframe[sweep]'"


def load_optuna() -> Any:
    """Returns the module optuna, which tells warnings and worse alone.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ConfigError(f"this search needs Optuna, which is not installed: {_INSTALL}") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_storage(url: str | None, folder: Path) -> Any:
    """Returns Optuna's storage.

    Args:
        url: Of a database; None takes a file in the sweep folder.
        folder: The sweep folder.

    Raises:
        ConfigError: If the database is not to be had; its password is not told.
    """
    return _file(folder / STUDY_FILE) if url is None else _database(url)


def _file(path: Path) -> Any:
    load_optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    _mend(path)
    lock: Any = _Lock(path)  # Optuna asks for its two methods, and its class is not public
    try:
        return JournalStorage(JournalFileBackend(str(path), lock_obj=lock))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({error}); restore it, or give another sweep.dir") from error


def _mend(path: Path) -> None:
    """Drops a last line that a killed driver has left half written."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


class _Lock:
    """A lock that the system takes back from a killed process; Optuna's own would stay for half a minute."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def acquire(self) -> bool:
        self._descriptor = os.open(self._path, os.O_RDWR)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        os.close(self._descriptor)


def _database(url: str) -> Any:
    load_optuna()
    from optuna.storages import RDBStorage, get_storage

    shown = without_password(url)
    if url.partition("://")[2].partition("/")[0].count("@") > 1:
        # What stands behind the first @ would be the host to the database's package, which prints it.
        raise ConfigError(f"sweep.search.storage={shown}: inside a name or a password write @ as %40")
    where = f"sweep.search.storage={shown}"
    kind = re.split(r"[+:]", url, maxsplit=1)[0]
    if kind == "redis":
        return _redis(url, where)
    if kind == "sqlite" and url.partition("://")[2].partition("?")[0] in ("", "/", "/:memory:"):
        raise ConfigError(f"{where} keeps the study in memory alone; give a file, such as sqlite:///study.db")
    timeout = {_TIMEOUTS[kind]: _TIMEOUT_S} if kind in _TIMEOUTS else {}
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    try:
        return get_storage(RDBStorage(url, engine_kwargs={"connect_args": timeout, "pool_pre_ping": True}))
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(
            f"{where} is no URL of a database, such as postgresql+psycopg://USER@HOST/DATABASE or sqlite:///FILE"
        ) from error
    except ImportError as error:
        module = getattr(error.__cause__, "name", None) or "the database's package"
        package = _PACKAGES.get(module, module)
        raise ConfigError(
            f"{where} needs a package that is not installed: pip install {package} (psycopg for PostgreSQL, with a "
            "URL that begins with postgresql+psycopg://)"
        ) from error
    except (SQLAlchemyError, RuntimeError) as error:
        raise ConfigError(f"{where} can't be used: {told(error)}") from error


def _redis(url: str, where: str) -> Any:
    from optuna.exceptions import ExperimentalWarning
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalRedisBackend

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return JournalStorage(JournalRedisBackend(url))
    except ImportError as error:
        raise ConfigError(f"{where} needs a package that is not installed: pip install redis") from error
    except Exception as error:  # the package's own errors, which are not there without it
        raise ConfigError(f"{where} can't be used: {told(error)}") from error


def told(error: BaseException) -> str:
    """Returns what a database says, in one line and without a password.

    Args:
        error: Its own, or the one that SQLAlchemy makes of it.
    """
    text = " ".join(str(getattr(error, "orig", None) or error).split())
    return without_password(text) or type(error).__name__
