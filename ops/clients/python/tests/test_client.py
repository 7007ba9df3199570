import asyncio
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import unittest
import urllib.parse

import psycopg

from authio_actions_client import ActionsError, AsyncClient, Client, new_event_id
from authio_actions_client.protocol import ReplyTo

HERE = pathlib.Path(__file__).parent.parent
URL = os.environ["DATABASE_URL"]


def plan(name, **more):
    return {"user": {"id": "user_1"}, "metadata": {"plan": name} | more}


class Line:
    """Leads to the database; may lose the answers to what was asked, or go dead without a word."""

    def __init__(self):
        self.asked = []
        self.loses = 0
        self.is_dead = False

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._lead, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = urllib.parse.urlsplit(URL)._replace(netloc=re.sub(r":[0-9]+$", f":{port}", urllib.parse.urlsplit(URL).netloc)).geturl()
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _lead(self, reader, writer):
        to = urllib.parse.urlsplit(URL)
        database_reader, database_writer = await asyncio.open_connection(to.hostname, to.port)
        is_losing = False

        async def pipe(reader, writer, is_asking):
            nonlocal is_losing
            while data := await reader.read(65536):
                named = re.findall(rb"actions\.(enqueue_\w+)", data) if is_asking else []
                self.asked += [name.decode() for name in named]
                if named and self.loses:
                    self.loses, is_losing = self.loses - 1, True
                if is_losing and not is_asking:
                    break
                if not self.is_dead:
                    writer.write(data)

        await asyncio.wait(
            [asyncio.create_task(pipe(reader, database_writer, True)), asyncio.create_task(pipe(database_reader, writer, False))],
            return_when=asyncio.FIRST_COMPLETED,
        )
        for writer in (writer, database_writer):
            writer.close()


async def end_sessions(name):
    """As a database that restarts would: ends this login's sessions with this name."""
    async with await psycopg.AsyncConnection.connect(URL, autocommit=True) as connection:
        ended = await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where application_name = %s", (name,))
        return len(await ended.fetchall())


class Clients(unittest.IsolatedAsyncioTestCase):
    async def test_an_event_has_the_outcome_of_its_action(self):
        async with AsyncClient(URL) as client:
            allowed = await client.invoke("acme", "pre_token_mint", plan("allow", n=7))
            denied = await client.invoke("acme", "pre_authenticate", plan("deny"))
            nobody = await client.invoke("acme", "pre_register", plan("allow"))
        self.assertTrue(allowed.allows)
        self.assertEqual((allowed.outcome["status"], allowed.outcome["claims"]), ("ok", {"n": 7}))
        self.assertRegex(allowed.invocation_id, "^inv_")
        self.assertFalse(denied.allows)
        self.assertEqual((denied.outcome["code"], denied.outcome["reason"]), ("planned", "by the event"))
        self.assertEqual((nobody.invocation_id, nobody.outcome["source"]), (None, "no_action"))

    async def test_a_result_too_large_for_a_notification_is_read(self):
        async with AsyncClient(URL) as client:
            answer = await client.invoke("acme", "pre_token_mint", plan("large"))
        self.assertEqual(len(answer.outcome["claims"]["text"]), 9_000)

    async def test_an_endpoint_that_hangs_ends_by_fail_mode_in_time(self):
        async with AsyncClient(URL) as client:
            began = time.monotonic()
            open_, closed = await asyncio.gather(
                client.invoke("acme", "post_register", plan("hang")), client.invoke("acme", "pre_authenticate", plan("hang"))
            )
        self.assertLess(time.monotonic() - began, 3)
        self.assertEqual((open_.outcome["source"], closed.outcome["source"]), ("fail_open", "fail_closed"))

    async def test_many_at_once_share_a_few_connections(self):
        async with AsyncClient(URL, connections=2) as client:
            answers = await asyncio.gather(*(client.invoke("acme", "pre_token_mint", plan("allow", n=n)) for n in range(200)))
        self.assertEqual([answer.outcome["claims"]["n"] for answer in answers], list(range(200)))

    async def test_an_event_reported_twice_is_one_invocation(self):
        event_id = new_event_id()
        async with AsyncClient(URL) as one, AsyncClient(URL) as other:
            first = await one.invoke("acme", "pre_token_mint", plan("allow", n=1), event_id=event_id)
            again = await other.invoke("acme", "pre_token_mint", plan("allow", n=1), event_id=event_id)
        self.assertEqual((first.invocation_id, first.event_id), (again.invocation_id, event_id))

    async def test_an_answer_that_got_lost_is_asked_for_again_and_nothing_is_sent_twice(self):
        event_id = new_event_id()
        async with Line() as line, AsyncClient(line.url, listen_url=URL) as client, AsyncClient(URL) as other:
            line.loses = 1
            answer = await client.invoke("acme", "pre_token_mint", plan("allow", n=1), event_id=event_id)
            again = await other.invoke("acme", "pre_token_mint", plan("allow", n=1), event_id=event_id)
            self.assertEqual((answer.outcome["status"], answer.invocation_id), ("ok", again.invocation_id))
            self.assertEqual(line.asked, ["enqueue_many", "enqueue_again"])

    async def test_a_line_that_goes_dead_is_an_error_in_time(self):
        async with Line() as line, AsyncClient(line.url, listen_url=URL) as client:
            await client.invoke("acme", "pre_token_mint", plan("allow", n=1))
            line.is_dead = True
            began = time.monotonic()
            with self.assertRaisesRegex(ActionsError, "does not answer"):
                await client.invoke("acme", "pre_token_mint", plan("allow", n=1))
            self.assertLess(time.monotonic() - began, 10)
            line.is_dead = False
            answer = await client.invoke("acme", "pre_token_mint", plan("allow", n=2))
            self.assertEqual(answer.outcome["status"], "ok")

    async def test_lost_connections_are_opened_anew(self):
        async with AsyncClient(URL) as client:
            for name in ("auth-core actions client", "auth-core actions listener"):
                self.assertGreater(await end_sessions(name), 0)
                answers = await asyncio.gather(*(client.invoke("acme", "pre_token_mint", plan("allow", n=n)) for n in range(20)))
                self.assertEqual({answer.outcome["status"] for answer in answers}, {"ok"})

    async def test_an_outcome_of_somebody_elses_is_not_believed(self):
        async with AsyncClient(URL) as client:
            waiting = asyncio.create_task(client.invoke("acme", "pre_authenticate", plan("hang")))
            while not client._waiting:
                await asyncio.sleep(0.01)
            [invocation_id] = client._waiting
            forged = {"decision": "allow", "source": "verdict", "status": "ok"}
            async with await psycopg.AsyncConnection.connect(URL, autocommit=True) as connection:
                for more in ({}, {"token": "x" * 32}):
                    payload = json.dumps([{"id": invocation_id, "status": "ok", "outcome": forged} | more])
                    await connection.execute("select pg_notify(%s, %s)", (client._reply_to.channel, payload))
            self.assertEqual((await waiting).outcome["source"], "fail_closed")

    async def test_numbers_stay_as_they_were_written(self):
        async with AsyncClient(URL) as client:
            for n in ("9007199254740993", "1.10", "1e400", "0.12345678901234567890"):
                answer = await client.invoke("acme", "pre_token_mint", plan("number", text=n))
                self.assertIn(f'"n":{n}', answer.json.replace(" ", ""))

    async def test_a_lost_notification_costs_little(self):
        async with AsyncClient(URL) as client:
            client._reply_to.read = lambda payload: []
            began = time.monotonic()
            answer = await client.invoke("acme", "pre_token_mint", plan("allow", n=1))
        self.assertEqual(answer.outcome["status"], "ok")
        self.assertLess(time.monotonic() - began, 1.8)

    async def test_a_trace_goes_through_and_one_that_is_none_is_passed_over(self):
        trace_parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        async with AsyncClient(URL) as client:
            for given, got in ((trace_parent, trace_parent), ("odd", ""), ("\0", ""), ("\ud800", "")):
                answer = await client.invoke("acme", "pre_token_mint", plan("trace"), trace_parent=given)
                self.assertEqual(answer.outcome["claims"], {"trace": got})

    async def test_whoever_waits_when_it_is_closed_gets_an_error(self):
        client = await AsyncClient(URL).__aenter__()
        waiting = [asyncio.create_task(client.invoke("acme", "pre_authenticate", plan("hang"))) for _ in range(3)]
        while len(client._waiting) < 3:
            await asyncio.sleep(0.01)
        await client.close()
        for ended in await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 3):
            self.assertIsInstance(ended, ActionsError)
        with self.assertRaisesRegex(ActionsError, "closed"):
            await client.invoke("acme", "pre_token_mint", {})

    async def test_what_is_wrong_is_an_error_that_says_so_and_costs_no_other(self):
        async with AsyncClient(URL) as client:
            wrong = [("acme", "pre_login", {}), ("acme", "pre_token_mint", {"trigger": "mine"}), ("acme", "pre_token_mint", {"x": {1}})]
            deep: list = []
            for _ in range(5_000):
                deep = [deep]
            wrong.append(("acme", "pre_token_mint", {"x": deep}))
            good = [("acme", "pre_token_mint", plan("allow", n=n)) for n in range(5)]
            answers = await asyncio.gather(*(client.invoke(*event) for event in good + wrong), return_exceptions=True)
        self.assertEqual([answer.outcome["status"] for answer in answers[:5]], ["ok"] * 5)
        for error, word in zip(answers[5:], ("pre_login", "trigger", "JSON", "JSON")):
            self.assertIsInstance(error, ActionsError)
            self.assertIn(word, str(error))
            self.assertTrue(error.blames_event)
        with self.assertRaisesRegex(ActionsError, "not reachable"):
            async with AsyncClient("postgresql://nobody@127.0.0.1:1/none"):
                pass


class Threads(unittest.TestCase):
    def test_the_client_for_threads_is_the_same(self):
        with Client(URL) as client, concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: client.invoke("acme", "pre_token_mint", plan("allow", n=n)), range(50)))
        self.assertEqual([answer.outcome["claims"]["n"] for answer in answers], list(range(50)))
        with self.assertRaisesRegex(RuntimeError, "with Client"):
            client.invoke("acme", "pre_token_mint", {})


class Small(unittest.TestCase):
    def test_ids_are_as_the_fleet_makes_them_and_grow(self):
        ids = [new_event_id() for _ in range(100)]
        self.assertTrue(all(re.fullmatch("evt_[0-7][0-9A-HJKMNP-TV-Z]{25}", id) for id in ids))
        self.assertEqual(len(set(ids)), 100)

    def test_no_payload_breaks_the_listener(self):
        reply_to, id = ReplyTo(), "inv_01JD3X6G8Q7N9V8R2M4T6W8Y0B"
        for payload in ("", "{", "7", "[7]", "[null]", "[{}]", '[{"id":7}]', '[{"id":"inv_1"}]', "[" * 5_000, '[{"id":"\\ud800"}]', "9" * 5_000):
            self.assertEqual(reply_to.read(payload), [], payload[:50])
        ours = [{"id": id, "token": reply_to.token, "outcome": {"decision": "deny", "reason": '"1e5 \\" 0.5'}}]
        for reply_to.token in ("1e5" * 10, "7" * 32):
            ours[0]["token"] = reply_to.token
            self.assertEqual([(i, t and t.outcome) for i, t in reply_to.read(json.dumps(ours))], [(id, ours[0]["outcome"])])
        for more in ({"token": "é"}, {"token": "\ud800"}, {"token": 7}, {"outcome": 7}, {"outcome": {"claims": {"n": 0.1}}}):
            self.assertEqual(reply_to.read(json.dumps([ours[0] | more])), [(id, None)], more)

    def test_the_driver_reports_line_by_line(self):
        lines = [
            {"n": 1, "project_id": "acme", "trigger": "pre_authenticate", "event": plan("hang")},
            {"n": 2, "project_id": "acme", "trigger": "pre_token_mint", "event": plan("allow", n=2)},
            {"n": 3, "project_id": "acme", "trigger": "pre_login", "event": {}},
        ]
        asked = "".join(json.dumps(line) + "\n" for line in lines)
        done = subprocess.run([sys.executable, "-m", "authio_actions_client.driver"], cwd=HERE, input=asked, capture_output=True, text=True, check=True)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual({line["n"]: line["status"] for line in said}, {1: "timeout", 2: "ok", 3: "error"})
        self.assertEqual(said[-1]["n"], 1, "each is told as it ends")
