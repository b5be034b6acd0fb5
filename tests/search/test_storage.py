"""Storages: every kind can be named, and one that can't be reached says how to start it."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import StorageInternalError

from mnsa.errors import StudyError
from mnsa.search import storage
from mnsa.search.storage import absolute_url, open_storage, strip_password, with_retries


def test_each_kind_of_storage_saves_a_study(storage_url: Any) -> None:
    study = optuna.create_study(study_name="s", storage=open_storage(storage_url))
    study.set_user_attr("name", "value")
    assert optuna.load_study(study_name="s", storage=open_storage(storage_url)).user_attrs == {"name": "value"}


def test_path_with_braces_is_no_template(tmp_path: Path) -> None:
    (tmp_path / "{odd} [1]").mkdir()
    url = storage.sqlite_url(tmp_path / "{odd} [1]" / "study.db")
    optuna.create_study(study_name="s", storage=open_storage(url))
    assert (tmp_path / "{odd} [1]" / "study.db").exists()


def test_file_urls_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_url("sqlite:///a.db") == f"sqlite:///{tmp_path}/a.db"
    assert absolute_url("sqlite:////srv/a.db") == "sqlite:////srv/a.db"
    assert absolute_url("journal:a.log") == absolute_url("journal://a.log") == f"journal:{tmp_path}/a.log"
    assert absolute_url("journal:///srv/a.log") == "journal:/srv/a.log"
    assert absolute_url("postgresql://me@oak/leaves") == "postgresql://me@oak/leaves"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://me:secret@oak:5432/leaves", "postgresql://me@oak:5432/leaves"),
        ("mysql+pymysql://me:s%40c@oak/leaves", "mysql+pymysql://me@oak/leaves"),
        ("postgresql://me@oak/leaves", "postgresql://me@oak/leaves"),
    ],
)
def test_passwords_are_not_shown(url: str, shown: str) -> None:
    assert strip_password(url) == shown


@pytest.mark.parametrize("url", ["leaves.db", "oracle://me:secret@oak/leaves", "http://oak"])
def test_unknown_kind_of_storage_is_refused(url: str) -> None:
    with pytest.raises(StudyError, match="expected sqlite:///FILE, postgresql://") as refusal:
        absolute_url(url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("postgresql://me:secret@127.0.0.1:{port}/leaves", "Start one: docker run .* postgres"),
        ("mysql://me:secret@127.0.0.1:{port}/leaves", "Start one: docker run .* mysql"),
        ("grpc://127.0.0.1:{port}", "run_grpc_proxy_server"),
        ("sqlite:////no/such/folder/a.db", "Its folder must exist"),
        ("journal:/no/such/folder/a.log", "Its folder must exist"),
    ],
)
def test_unreachable_storage_says_how_to_start_it(
    url: str, hint: str, free_port: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "CONNECT_TIMEOUT_S", 1)
    with pytest.raises(StudyError, match=rf"can't be reached \(.+\)\. .*{hint}") as refusal:
        open_storage(url.format(port=free_port))
    assert "secret" not in str(refusal.value)


def test_missing_driver_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str, *_: Any) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(
        "sqlalchemy.dialects.postgresql.psycopg.PGDialect_psycopg.import_dbapi", lambda: missing("psycopg")
    )
    with pytest.raises(StudyError, match=r"psycopg.*pip install -e '\.\[search-storages\]'"):
        open_storage("postgresql://me@oak/leaves")


def test_failed_query_is_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[Any] = []
    monkeypatch.setattr("mnsa.search.storage.time.sleep", pauses.append)
    answers = iter([StorageInternalError(), StorageInternalError(), 7])

    def ask() -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert with_retries(ask) == 7
    assert pauses == [1, 3]


def test_query_is_given_up_after_the_last_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mnsa.search.storage.time.sleep", lambda _: None)

    def ask() -> None:
        raise StorageInternalError("gone")

    with pytest.raises(StorageInternalError, match="gone"):
        with_retries(ask)
