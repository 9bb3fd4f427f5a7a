"""Views and starts of forms, counted many at a time: a page that is looked at often asks for little else.

As ``form_counts.add`` does it, of a form that is still the one remembered (``known_forms``).
"""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from mailbase.audience.form_counts import MOST, OTHER, What, Whence, short_page, short_source, short_word
from mailbase.audience.gathering import Gathering, Waiting
from mailbase.audience.known_forms import Known
from mailbase.db import Connection


class Seen(Struct, frozen=True):
    """Something that happened to a form."""

    known: Known
    what: What
    whence: Whence

    def named(self) -> dict[str, str]:
        """Return by dimension what is counted."""
        return {
            "mode": short_word(self.whence.mode),
            "page": short_page(self.whence.page),
            "source": short_source(self.whence.source),
            "trigger": short_word(self.whence.trigger),
        }


# Not EXISTS: it may be planned as a hash of the whole table.
COUNT = """
WITH fresh AS MATERIALIZED (
    SELECT form_id, version FROM unnest($1::bigint[], $2::text[]) AS had (form_id, version)
    WHERE version = (SELECT concat_ws(' ', form.xmin, (SELECT xmin FROM settings), (
        SELECT string_agg(interest.xmin::text, ' ' ORDER BY interest.id)
        FROM jsonb_array_elements(form.definition -> 'interests') AS asked (id) JOIN interests AS interest ON interest.id = asked.id::bigint))
        FROM forms AS form WHERE form.id = form_id)
), named AS (
    SELECT form_id, what, dimension, value, most, n, dense_rank() OVER (PARTITION BY form_id, dimension ORDER BY value) AS nth
    FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::integer[], $9::bigint[])
        AS given (form_id, version, what, dimension, value, most, n) JOIN fresh USING (form_id, version)
), kept AS (
    SELECT form_id, what, dimension, CASE
        WHEN value = '' OR (SELECT true FROM form_counts AS count
            WHERE count.form_id = named.form_id AND day = current_date AND count.dimension = named.dimension AND count.value = named.value LIMIT 1) THEN value
        WHEN (SELECT true FROM form_counts AS count
            WHERE count.form_id = named.form_id AND day = current_date AND count.dimension = named.dimension AND count.value = $10 LIMIT 1) THEN $10
        WHEN nth + (SELECT count(DISTINCT count.value) FROM form_counts AS count
            WHERE count.form_id = named.form_id AND day = current_date AND count.dimension = named.dimension AND count.value <> '') <= most THEN value
        ELSE $10 END AS value, n
    FROM named
), moved AS (
    INSERT INTO form_counts (form_id, day, dimension, value, what, slot, n)
    SELECT form_id, current_date, dimension, value, what, pg_backend_pid() % 64, sum(n) FROM kept GROUP BY 1, 3, 4, 5 ORDER BY 1, 3, 4, 5
    ON CONFLICT (form_id, day, dimension, value, what, slot) DO UPDATE SET n = form_counts.n + excluded.n
)
SELECT form_id, version FROM fresh
"""


class Tally(Gathering[Seen, bool]):
    """Counts; ``ask`` returns False where the form is another by now, and nothing was counted."""

    async def write(self, db: Connection, batch: Sequence[Waiting[Seen, bool]]) -> None:
        """Count a batch."""
        moved: Counter[tuple[int, str, str, str, str, int]] = Counter()
        for one in batch:
            form_id, version = one.item.known.form.id, one.item.known.version
            for dimension, value in one.item.named().items():
                moved[form_id, version, one.item.what, dimension, value, MOST[dimension]] += 1  # type: ignore[index]  # its own names
        had = list({(key[0], key[1]) for key in moved})
        columns = [list(column) for column in zip(*moved, strict=True)]
        rows = await db.fetch(
            COUNT,
            [form_id for form_id, _ in had],
            [version for _, version in had],
            *columns,
            list(moved.values()),
            OTHER,
        )
        fresh = {(row["form_id"], row["version"]) for row in rows}
        for one in batch:
            one.tell((one.item.known.form.id, one.item.known.version) in fresh)
