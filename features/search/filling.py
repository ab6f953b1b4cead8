"""What search reads, made from the rows that are there: for databases of earlier versions, and for ``reindex``."""

from typing import Any

from features.search import contexts, phrases


def fill(connection: Any) -> tuple[int, int]:
    """Phrases for labels that have none, words for runs that are not indexed: how many runs, and how many phrases."""
    texts, runs = _texts(connection), _runs(connection)
    phrases.remember(texts, connection)
    for run, revision in runs:
        contexts.index_run(run, revision, connection)
    return len(runs), len(texts)


def empty(connection: Any) -> None:
    """No phrases, and no words of any run."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM features_phrase")
        cursor.execute("DELETE FROM features_contextwords")


def forget_unused(connection: Any) -> int:
    """Without the phrases that no label bears any longer; how many those were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM features_phrase WHERE NOT EXISTS "
            "(SELECT 1 FROM features_label l WHERE l.text = features_phrase.text)"
        )
        return int(cursor.rowcount)


def _texts(connection: Any) -> list[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT l.text FROM features_label l WHERE l.text <> '' AND NOT EXISTS "
            "(SELECT 1 FROM features_phrase p WHERE p.text = l.text)"
        )
        return [text for (text,) in cursor.fetchall()]


def _runs(connection: Any) -> list[tuple[int, int]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT r.id, r.revision FROM features_run r WHERE NOT EXISTS (SELECT 1 FROM features_contextwords c "
            "WHERE c.run_id = r.id AND c.revision = r.revision) ORDER BY r.id"
        )
        return list(cursor.fetchall())
