"""Imports, exports and bulk changes: what becomes of each line, and that a job is all or nothing whatever happens to its runner."""

import asyncio
import csv
import io
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from mailbase import queue
from mailbase.audience import bulk, imports, subscribers
from mailbase.audience.imports import Progress
from mailbase.audience.subscribers import Filter
from mailbase.jobs import runner

CONSENT = {"purpose": "newsletter", "text": "Yes, write to me."}
KEY = b"k" * 32


async def upload(client, content, **options):
    options = {"consent": CONSENT, **options}
    data = content if isinstance(content, bytes) else content.encode()
    return await client.post(
        "/v1/imports", files={"file": ("people.csv", data, "text/csv")}, data={"options": json.dumps(options)}
    )


async def run_import(client, pool, content, **options):
    answer = await upload(client, content, **options)
    assert answer.status_code == 202, answer.text
    key = await erasure_key(client)
    while await runner.run_one(pool, key):
        pass
    return (await client.get(f"/v1/jobs/{answer.json()['id']}")).json()


async def erasure_key(client):
    return client._transport.app.state.erasure_key


async def rejected(client, job):
    answer = await client.get(f"/v1/imports/{job['id']}/rejected.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answer.text)))


async def until(db, question, job_id):
    deadline = time.monotonic() + 60
    while not await db.fetchval(question, job_id):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


async def person(client, email):
    return (await client.get(f"/v1/subscribers/by-email/{email}")).json()


async def test_an_import_of_every_column(client, pool):
    """Known columns go to their fields, others become attributes, options are added to everybody, and each person is active with the consent."""
    await client.post("/v1/interests", json={"slug": "news", "name": "News"})
    await client.post("/v1/interests", json={"slug": "sales", "name": "Sales"})
    content = 'Email,Name,locale,Timezone,tags,interests,First name\r\nAnn@Example.com,Ann,pt-PT,Europe/Lisbon,"b, a",news,Anna\r\nbob@example.com,,,,,,\r\n'
    job = await run_import(client, pool, content, tags=["imported"], interests=["sales"])
    assert (job["status"], job["result"], job["done"], job["total"], job["error"]) == (
        "done",
        {"created": 2, "updated": 0, "skipped": 0, "rejected": 0},
        2,
        2,
        None,
    )
    ann = await person(client, "ann@example.com")
    assert ann["attributes"] == {"Name": "Ann", "First_name": "Anna"}
    assert (ann["status"], ann["locale"], ann["timezone"], ann["tags"], ann["interests"], ann["source"]) == (
        "active",
        "pt-PT",
        "Europe/Lisbon",
        ["a", "b", "imported"],
        ["news", "sales"],
        "import",
    )
    assert (await person(client, "bob@example.com"))["attributes"] == {}
    [consent] = (await client.get(f"/v1/subscribers/{ann['id']}/consents")).json()["data"]
    assert (consent["text"], consent["purpose"], consent["source"]) == ("Yes, write to me.", "newsletter", "import")
    [event] = (await client.get(f"/v1/subscribers/{ann['id']}/events")).json()["data"]
    assert (event["kind"], event["data"]["import_id"]) == ("imported", job["id"])


@pytest.mark.parametrize(
    "content",
    [
        b"email;city\nann@example.com;K\xc3\xb6ln\n",
        b"\xef\xbb\xbfemail\tcity\r\nann@example.com\tK\xc3\xb6ln\r\n",
        b'"email","city"\nann@example.com,"K\xc3\xb6ln"',
        b"city,E-Mail\r\rK\xc3\xb6ln,ann@example.com\r".replace(b"\r\r", b"\r\n"),
    ],
    ids=["semicolon", "tab, BOM, CRLF", "quoted, no last line end", "other order"],
)
async def test_dialects(client, pool, content):
    """Comma, semicolon and tab, with or without a byte-order mark, are understood without being told."""
    job = await run_import(client, pool, content)
    assert job["result"] == {"created": 1, "updated": 0, "skipped": 0, "rejected": 0}
    assert (await person(client, "ann@example.com"))["attributes"] == {"city": "Köln"}


async def test_each_bad_line_is_named_with_its_reason(client, pool):
    """Bad lines are rejected with the number of the line they start at, even after a cell that spans lines; the rest comes in."""
    content = (
        b"email,note,locale,interests\n"
        b'ann@example.com,"two\nlines",,\n'
        b"no-address,,,\n"
        b"\n"
        b",nobody,,\n"
        b"caf\xe9@example.com,,,\n"
        b"bob@example.com,fine,not a locale,\n"
        b"cyd@example.com,,,nobody-knows\n"
        b"dan@example.com,a,b,c,d\n"
        b"eve@example.com\n"
    )
    job = await run_import(client, pool, content)
    assert job["result"] == {"created": 2, "updated": 0, "skipped": 0, "rejected": 6}
    found = {int(line["line"]): (line["email"], line["reason"]) for line in await rejected(client, job)}
    assert sorted(found) == [4, 6, 7, 8, 9, 10]
    assert found[4][1].startswith("not an e-mail address")
    assert found[6][1] == "no address"
    assert found[7][1] == "not valid UTF-8"
    assert found[8] == ("bob@example.com", "not a locale: not a locale")
    assert "nobody-knows" in found[9][1]
    assert "more cells" in found[10][1]


async def test_of_one_address_in_a_file_the_first_line_counts(client, pool):
    """The same address again, in whatever case and however far below, is skipped."""
    far = "".join(f"p{n}@example.com,x\n" for n in range(60_000))
    content = "email,n\nAnn@example.com,1\nann@EXAMPLE.com,2\n" + far + "ANN@example.com,3\n"
    job = await run_import(client, pool, content)
    assert job["result"] == {"created": 60_001, "updated": 0, "skipped": 2, "rejected": 0}
    assert (await person(client, "ann@example.com"))["attributes"] == {"n": "1"}


@pytest.mark.parametrize(
    ("on_conflict", "result", "attributes", "tags"),
    [
        ("error", {"created": 1, "updated": 0, "skipped": 0, "rejected": 1}, {"a": "1", "b": "2"}, ["x"]),
        ("skip", {"created": 1, "updated": 0, "skipped": 1, "rejected": 0}, {"a": "1", "b": "2"}, ["x"]),
        ("merge", {"created": 1, "updated": 1, "skipped": 0, "rejected": 0}, {"a": "1", "b": "3"}, ["x", "y"]),
        ("replace", {"created": 1, "updated": 1, "skipped": 0, "rejected": 0}, {"b": "3"}, ["y"]),
    ],
)
async def test_on_conflict(client, pool, on_conflict, result, *, attributes, tags):
    """People who are there are rejected, skipped, merged or replaced, as asked for."""
    await run_import(client, pool, "email,a,b\nann@example.com,1,2\n", tags=["x"])
    job = await run_import(
        client, pool, "email,b\nAnn@example.com,3\nnew@example.com,4\n", tags=["y"], on_conflict=on_conflict
    )
    assert job["result"] == result
    ann = await person(client, "ann@example.com")
    assert (ann["attributes"], ann["tags"]) == (attributes, tags)


@pytest.mark.parametrize("on_conflict", ["merge", "replace"])
async def test_an_import_brings_nobody_back(client, pool, db, on_conflict):
    """People who left, bounced, complained or were erased, and suppressed addresses and domains, are skipped."""
    names = ["left", "bounced", "complained", "erased", "archived"]
    await run_import(client, pool, "email\n" + "".join(f"{name}@example.com\n" for name in names))
    ids = {name: (await person(client, f"{name}@example.com"))["id"] for name in names}
    await client.post(f"/v1/subscribers/{ids['left']}/unsubscribe")
    await client.delete(f"/v1/subscribers/{ids['erased']}")
    await client.patch(f"/v1/subscribers/{ids['archived']}", json={"status": "archived"})
    await subscribers.mark_bounced(db, ids["bounced"])
    await subscribers.mark_complained(db, ids["complained"])
    await client.post("/v1/suppressions", json={"email": "listed@example.com"})
    await client.post("/v1/suppressions", json={"domain": "blocked.example"})
    people = [*(f"{name}@example.com" for name in names), "listed@example.com", "any@blocked.example"]
    job = await run_import(
        client, pool, "email,a\n" + "".join(f"{email},1\n" for email in people), on_conflict=on_conflict
    )
    assert job["result"] == {"created": 0, "updated": 1, "skipped": 6, "rejected": 0}
    assert {row["email"]: row["status"] for row in await db.fetch("SELECT email, status FROM subscribers")} == {
        "left@example.com": "unsubscribed",
        "bounced@example.com": "bounced",
        "complained@example.com": "complained",
        "archived@example.com": "archived",
    }


async def test_mapping(client, pool):
    """`mapping` says which column is what; null leaves one out."""
    content = "Kontakt,Ort,Intern\nann@example.com,Köln,secret\n"
    job = await run_import(client, pool, content, mapping={"Kontakt": "email", "Ort": "city", "Intern": None})
    assert job["result"]["created"] == 1
    assert (await person(client, "ann@example.com"))["attributes"] == {"city": "Köln"}


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ("", {}, "empty"),
        ("name,city\nAnn,Porto\n", {}, "No column holds e-mail addresses"),
        ("email,mail\na@example.com,b@example.com\n", {}, "Two columns"),
        ("email\na@example.com\n", {"mapping": {"nowhere": "city"}}, "nowhere"),
        ("email,ort\na@example.com,x\n", {"mapping": {"ort": "1st city"}}, "1st city"),
        (b"\xff\xfee\0m\0a\0i\0l\0", {}, "not UTF-8"),
    ],
)
async def test_a_file_that_cannot_be_an_import_fails_with_a_sentence(client, pool, content, options, words):
    """What is wrong with the file as a whole is the job's error, and nothing is imported."""
    job = await run_import(client, pool, content, **options)
    assert job["status"] == "failed"
    assert words in job["error"]
    assert job["result"] is None


async def test_what_the_upload_refuses(client):
    """No file, no options, unknown options, no consent, another content type: refused before there is a job."""
    file = {"file": ("a.csv", b"email\n", "text/csv")}
    assert (await client.post("/v1/imports", files=file)).status_code == 400
    assert (await client.post("/v1/imports", files={"x": ("a", b"")}, data={"options": "{}"})).status_code == 400
    assert (await client.post("/v1/imports", files=file, data={"options": "{}"})).status_code == 400
    assert (await client.post("/v1/imports", files=file, data={"options": "not json"})).status_code == 400
    assert (
        await client.post("/v1/imports", files=file, data={"options": json.dumps({"consent": CONSENT, "later": 1})})
    ).status_code == 400
    assert (
        await client.post(
            "/v1/imports", files=file, data={"options": json.dumps({"consent": CONSENT, "interests": ["none"]})}
        )
    ).status_code == 422
    assert (
        await client.post("/v1/imports", files=file, data={"options": json.dumps({"consent": CONSENT}), "later": "1"})
    ).status_code == 400
    assert (await client.post("/v1/imports", json={})).status_code == 415
    assert (
        await client.post(
            "/v1/imports", content=b"--x\r\nbroken", headers={"content-type": "multipart/form-data; boundary=x"}
        )
    ).status_code == 400
    assert (await client.get("/v1/jobs")).json()["data"] == []
    assert (await client.get("/v1/imports/77")).status_code == 404


async def test_a_cancelled_import_leaves_nothing(client, pool, db):
    """Cancelled before or during its run, an import merges nobody, and its file is gone."""
    waiting = (await upload(client, "email\nann@example.com\n")).json()
    assert (await client.post(f"/v1/jobs/{waiting['id']}/cancel")).json()["status"] == "cancelled"
    assert not await runner.run_one(pool, KEY)
    running = (await upload(client, "email\n" + "".join(f"p{n}@example.com\n" for n in range(50_000)))).json()
    async with pool.acquire() as other, other.transaction():
        await other.execute(imports.TURN)  # the merge waits for its turn
        work = asyncio.create_task(runner.run_one(pool, KEY))
        await until(db, "SELECT status = 'running' FROM jobs WHERE id = $1", running["id"])
        assert (await client.post(f"/v1/jobs/{running['id']}/cancel")).status_code == 200
        await asyncio.wait_for(work, 10)
    job = (await client.get(f"/v1/jobs/{running['id']}")).json()
    assert (job["status"], job["result"]) == ("cancelled", None)
    assert await db.fetchval("SELECT count(*) FROM subscribers") == 0
    assert await db.fetchval("SELECT count(*) FROM job_uploads") == 0


async def test_somebody_who_signs_up_while_their_line_is_on_its_way(client, pool, db):
    """An address that appears between the look and the write makes nobody twice: the import does all of it again, as it is by then."""
    job = (
        await upload(client, "email,n\n" + "".join(f"p{n}@example.com,{n}\n" for n in range(10)), on_conflict="merge")
    ).json()
    async with pool.acquire() as other:
        async with other.transaction():
            await other.execute(
                "INSERT INTO subscribers (email, email_key, domain, status) VALUES ('P5@example.com', 'p5@example.com', 'example.com', 'pending')"
            )
            work = asyncio.create_task(runner.run_one(pool, KEY))
            await until(db, "SELECT count(*) > 0 AND $1::bigint > 0 FROM pg_locks WHERE NOT granted", job["id"])
        await asyncio.wait_for(work, 10)
    finished = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert finished["result"] == {"created": 9, "updated": 1, "skipped": 0, "rejected": 0}
    assert finished["done"] == 10
    assert await db.fetchval("SELECT count(*) FROM consents") == 10
    found = await person(client, "p5@example.com")
    assert (found["email"], found["status"], found["attributes"]) == ("P5@example.com", "active", {"n": "5"})
    [event] = (await client.get(f"/v1/subscribers/{found['id']}/events")).json()["data"]
    assert (event["kind"], event["data"]) == ("imported", {"import_id": job["id"], "how": "updated"})


async def test_a_runner_that_lost_its_lease_writes_nothing(client, pool, db):
    """A frozen worker that wakes after another one finished the import rolls back and changes nothing."""
    await upload(client, "email\nann@example.com\n")
    frozen = await queue.lease(db, [imports.KIND], seconds=0)
    await asyncio.sleep(0.01)
    assert await runner.run_one(pool, KEY)
    with pytest.raises(queue.LeaseLost):
        await queue.finish(db, frozen, {"created": 2}, done=2)
    with pytest.raises(queue.LeaseLost):
        await queue.renew(db, frozen)
    await queue.fail(db, frozen, "too late")
    await queue.release(db, frozen)
    assert await db.fetchval("SELECT count(*) FROM consents") == 1
    assert (await db.fetchrow("SELECT status, attempts FROM jobs"))["status"] == "done"


WORKER = """
import asyncio, sys
from mailbase.db import open_pool
from mailbase.jobs import runner
async def main():
    async with open_pool(sys.argv[1], size=4) as pool:
        print("up", flush=True)
        await runner.run(pool, b"k" * 32, stop=asyncio.Event(), wake=asyncio.Event())
asyncio.run(main())
"""


async def test_kill_9_in_the_middle_loses_and_doubles_nothing(client, pool, db, database_url):
    """A worker killed in the middle of an import leaves no half of it; the next one does it all, once."""
    rows = 20_000
    job = (
        await upload(client, "email,n\n" + "".join(f"p{n}@example.com,{n}\n" for n in range(rows)), on_conflict="merge")
    ).json()
    worker = subprocess.Popen(  # noqa: ASYNC220 (started, not waited for)
        [sys.executable, "-c", WORKER, database_url], stdout=subprocess.PIPE
    )
    async with pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE consents")  # the merge stops in its middle
        try:
            await until(db, "SELECT count(*) > 0 AND $1::bigint > 0 FROM pg_locks WHERE NOT granted", job["id"])
        finally:
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait()
            worker.stdout.close()
    assert await db.fetchval("SELECT count(*) FROM subscribers") == 0
    assert await db.fetchval("SELECT status FROM jobs") == "running"
    assert not await runner.run_one(pool, KEY), "the lease still holds"
    await db.execute("UPDATE jobs SET lease_until = now() - interval '1 second'")
    assert await runner.run_one(pool, KEY)
    finished = (await client.get(f"/v1/jobs/{job['id']}")).json()
    assert (finished["status"], finished["result"]) == (
        "done",
        {"created": rows, "updated": 0, "skipped": 0, "rejected": 0},
    )
    assert await db.fetchrow("SELECT count(*), count(DISTINCT email_key) FROM subscribers") == (rows, rows)
    assert await db.fetchval("SELECT count(*) FROM consents") == rows
    assert await db.fetchval("SELECT count(*) FROM job_uploads") == 0


async def test_export_streams_everybody(client, pool):
    """The export has a line for each person, a column for each attribute, and no cell a spreadsheet would run."""
    content = (
        "email,city,sum\n"
        + "".join(f"p{n}@example.com,Porto,{n}\n" for n in range(4500))
        + "evil@example.com,=1+1,+351 912 345 678\n"
    )
    await run_import(client, pool, content, tags=["a", "b"])
    answer = await client.get("/v1/subscribers/export.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(lines) == 4501
    found = {line["email"]: line for line in lines}
    assert {"city": "Porto", "sum": "0", "tags": "a,b", "status": "active"}.items() <= found["p0@example.com"].items()
    assert (found["evil@example.com"]["city"], found["evil@example.com"]["sum"]) == ("'=1+1", "+351 912 345 678")
    some = await client.get("/v1/subscribers/export.csv?email_prefix=p1&status=active")
    assert len(some.text.splitlines()) == 1 + 1 + 10 + 100 + 1000
    assert (await client.get("/v1/subscribers/export.csv?tag=nobody")).text.count("\n") == 1


async def bulk_job(client, pool, **body):
    answer = await client.post("/v1/subscribers/bulk", json=body)
    assert answer.status_code == 202, answer.text
    assert await runner.run_one(pool, await erasure_key(client))
    return (await client.get(f"/v1/jobs/{answer.json()['id']}")).json()


async def test_bulk_changes(client, pool, db):
    """Tags and interests of everybody the filter finds are changed as a job in batches; deleting erases."""
    for slug in ("news", "sales"):
        await client.post("/v1/interests", json={"slug": slug, "name": slug})
    await run_import(
        client, pool, "email\n" + "".join(f"p{n}@example.com\n" for n in range(2500)), tags=["old"], interests=["news"]
    )
    job = await bulk_job(
        client,
        pool,
        filter={"tag": "old"},
        add_tags=["new"],
        remove_tags=["old"],
        add_interests=["sales"],
        remove_interests=["news"],
    )
    assert (job["status"], job["total"], job["done"], job["result"]) == (
        "done",
        2500,
        2500,
        {"matched": 2500, "changed": 2500},
    )
    assert (
        await db.fetchval("SELECT count(*) FROM subscribers WHERE tags = '{new}' AND cardinality(interests) = 1")
        == 2500
    )
    again = await bulk_job(client, pool, filter={"interest": "sales"}, add_tags=["new"])
    assert again["result"] == {"matched": 2500, "changed": 0}
    one = await person(client, "p7@example.com")
    erased = await bulk_job(client, pool, filter={"ids": [one["id"], 10**9]}, delete=True)
    assert erased["result"] == {"matched": 1, "changed": 1}
    assert (
        await client.post(
            "/v1/subscribers", json={"email": "p7@example.com", "double_opt_in": False, "consent": CONSENT}
        )
    ).status_code == 422


async def test_bulk_needs_a_filter_and_something_to_do(client):
    """Nobody is changed by an empty filter, and a change of nothing is refused."""
    assert (await client.post("/v1/subscribers/bulk", json={"filter": {}, "add_tags": ["x"]})).status_code == 422
    spaced = await client.post("/v1/subscribers/bulk", json={"filter": {"status": "active"}, "add_tags": ["x "]})
    assert (spaced.status_code, spaced.json()["errors"][0]["field"]) == (422, "add_tags.0")
    assert (await client.post("/v1/subscribers/bulk", json={"filter": {"tag": "x"}})).status_code == 422
    assert (
        await client.post("/v1/subscribers/bulk", json={"filter": {"interest": "none"}, "add_tags": ["x"]})
    ).status_code == 422


async def test_a_bulk_job_goes_on_where_its_runner_died(client, pool, db):
    """A bulk job whose runner died after some batches goes on after them and counts nobody twice."""
    await run_import(client, pool, "email\n" + "".join(f"p{n}@example.com\n" for n in range(2500)))
    async with db.transaction():
        job = await bulk.ask(db, bulk.Change(which=Filter(status="active"), add_tags=["x"]))
    held = await queue.lease(db, [bulk.KIND], seconds=0)
    work = asyncio.create_task(bulk.run(pool, held, Progress(), KEY))
    await until(db, "SELECT done > 0 FROM jobs WHERE id = $1", job.id)
    work.cancel()
    await asyncio.wait({work})
    assert await db.fetchval("SELECT status FROM jobs WHERE id = $1", job.id) == "running"
    assert await runner.run_one(pool, KEY)
    finished = await queue.get(db, job.id)
    assert (finished.status, finished.result) == ("done", {"matched": 2500, "changed": 2500})
