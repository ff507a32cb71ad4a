"""Log pruning: which answers and which ground truth are deleted, and in what steps.

It decides what a truth is worth once an answer is gone: told for that answer it
goes with it, told for a key it stays until no answer of that key is left.
"""

from datetime import UTC, datetime

from loopbook.project.clock import to_micros
from loopbook.project.database import Database

PRUNED_ROWS = 5_000
OF_NO_ANSWER = "NOT EXISTS (SELECT 1 FROM predictions WHERE predictions.key = ground_truth.key)"


def prune(database: Database, before: datetime) -> int:
    """Delete answers received before an instant, with the ground truth of them alone.

    Some thousand at a time, so that a service that writes meanwhile waits
    for none of it long.

    Returns
    -------
    int
        How many answers were deleted.
    """
    limit, count = to_micros(before), 0
    oldest = database.sql(
        f"SELECT id, key FROM predictions WHERE received_us < ? LIMIT {PRUNED_ROWS}"
    )
    while True:
        answers = database.read(oldest, (limit,))
        _delete(database, answers)
        count += len(answers)
        if len(answers) < PRUNED_ROWS:
            break
    with database.transaction() as cursor:
        # what an earlier loopbook left of keys whose answers it had deleted
        old = f"DELETE FROM ground_truth WHERE received_us < ? AND {OF_NO_ANSWER}"
        cursor.execute(database.sql(old), (limit,))
        note = "INSERT INTO pruned (before_us, done_us, answers) VALUES (?, ?, ?)"
        cursor.execute(database.sql(note), (limit, to_micros(datetime.now(UTC)), count))
    return count


def _delete(database: Database, answers: list[tuple]) -> None:
    ids = [(name,) for name, _ in answers]
    keys = [(key,) for key in dict.fromkeys(key for _, key in answers) if key is not None]
    with database.transaction() as cursor:
        for gone, names in (
            ("DELETE FROM ground_truth WHERE prediction_id = ?", ids),
            ("DELETE FROM predictions WHERE id = ?", ids),
            (f"DELETE FROM ground_truth WHERE key = ? AND {OF_NO_ANSWER}", keys),
        ):
            if names:
                cursor.executemany(database.sql(gone), names)
