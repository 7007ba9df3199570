import base64
import json
import pathlib
import subprocess
import sys
import time
import unittest

from authio_actions import Receiver, allow, deny, sign, verify

HERE = pathlib.Path(__file__).parent.parent
VECTORS = json.loads((HERE.parent.parent / "vectors/signatures.json").read_text())["signatures"]
sys.path.insert(0, str(HERE / "examples"))
import triggers  # noqa: E402

SECRET = "asec_" + "1f" * 32


class Signatures(unittest.TestCase):
    def test_every_vector(self):
        self.assertGreater(len(VECTORS), 30)
        for vector in VECTORS:
            with self.subTest(vector["name"]):
                body = base64.b64decode(vector["body_b64"])
                self.assertIs(verify(vector["secrets"], vector["header"], body, vector["now"]), vector["valid"])

    def test_what_is_signed_is_valid(self):
        for body in (b"", b"{}", bytes(range(256))):
            self.assertTrue(verify([SECRET], sign(SECRET, body), body))

    def test_nobody_signs_with_an_empty_secret(self):
        with self.assertRaisesRegex(ValueError, "asec_"):
            sign("", b"{}")


class Receivers(unittest.TestCase):
    def test_an_event_is_decided_and_the_answer_is_signed(self):
        body = b'{"event_id":"evt_1","trigger":"pre_register"}'
        seen = []
        answer = Receiver([SECRET]).answer(body, sign(SECRET, body), lambda event: seen.append(event) or deny("no", "why"))
        self.assertEqual((answer.status, json.loads(answer.body)), (200, {"decision": "deny", "deny_code": "no", "deny_reason": "why"}))
        self.assertEqual(seen[0]["event_id"], "evt_1")
        self.assertTrue(verify([SECRET], answer.headers["Authio-Response-Signature"], answer.body))

    def test_what_is_not_signed_or_no_event_is_not_decided(self):
        def never(event):
            self.fail("it was asked")

        receiver = Receiver([SECRET])
        for signature in (None, "", sign("asec_other", b"{}"), sign(SECRET, b"{}", time.time() - 301)):
            self.assertEqual(receiver.answer(b"{}", signature, never).status, 401)
        for body in (b"", b"[]", b"7", b"{", b"\xff"):
            self.assertEqual(receiver.answer(body, sign(SECRET, body), never).status, 400)

    def test_secrets_are_one_or_two_and_never_empty(self):
        for wrong in ([], [""], SECRET):
            with self.assertRaisesRegex(ValueError, "accepted is"):
                Receiver(wrong)


class Verdicts(unittest.TestCase):
    def test_builders_leave_out_what_is_not_given(self):
        self.assertEqual(allow(), {"decision": "allow"})
        self.assertEqual(allow(roles=[]), {"decision": "allow", "override_roles": []})
        self.assertEqual(
            allow(claims={"a": 1}, roles=["r"], permissions=["p"], audit={"x": 1}),
            {"decision": "allow", "override_claims": {"a": 1}, "override_roles": ["r"], "override_permissions": ["p"], "append_audit": {"x": 1}},
        )

    def test_each_trigger_has_an_example(self):
        event = {"event_id": "evt_1", "occurred_at": "2026-11-26T00:00:00Z", "project": {"id": "p"}}
        decided = {
            trigger: triggers.decide(event | {"trigger": trigger, "user": {"email": "x@mailinator.example"}, "request": {"ip": "203.0.113.7"}})
            for trigger in [*triggers.DECISIONS, "one_of_next_year"]
        }
        self.assertEqual(
            {trigger: verdict.get("deny_code", verdict["decision"]) for trigger, verdict in decided.items()},
            {
                "pre_authenticate": "compliance_block", "post_authenticate": "requires_2fa", "pre_token_mint": "allow",
                "post_token_mint": "allow", "pre_register": "disposable_email", "post_register": "allow", "one_of_next_year": "allow",
            },
        )  # fmt: skip
        ada = triggers.decide(event | {"trigger": "pre_token_mint", "user": {"email": "Ada@acme.com"}})
        self.assertEqual(ada["override_roles"], ["billing_admin", "auditor"])


class Drivers(unittest.TestCase):
    def test_the_driver_answers_line_by_line(self):
        body = b"{}"
        lines = [
            {"secrets": [SECRET], "header": sign(SECRET, body), "body_b64": base64.b64encode(body).decode()},
            {"secrets": [SECRET], "header": None, "body_b64": ""},
        ]
        asked = "".join(json.dumps(line) + "\n" for line in lines)
        done = subprocess.run([sys.executable, "-m", "authio_actions.driver"], cwd=HERE, input=asked, capture_output=True, text=True, check=True)
        self.assertEqual([json.loads(line) for line in done.stdout.splitlines()], [{"valid": True}, {"valid": False}])
