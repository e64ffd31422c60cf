"""Only the issuer's tokens open the door, each to the jobs of its own subject, and only so often a minute."""

import base64
import datetime as dt
import hmac
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from live import live

from backgrid.errors import ParameterError
from backgrid.jobs import api, auth, store
from backgrid.jobs.auth import Issuer, UnauthorizedError, check_host, find_issuer, identify, own_names, read_limit
from backgrid.jobs.running import Outcome
from backgrid.models import BacktestResponse

SECRET = b"a secret of this test, long enough"
HS = Issuer("HS256", SECRET)
AAPL = {"symbol": "AAPL", "source": "sample"}
NOON = dt.datetime(2026, 11, 30, 12, tzinfo=dt.UTC)


def make_key(bits=2048):
    key = rsa.generate_private_key(65537, bits)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return private, key.public_key().public_bytes(serialization.Encoding.PEM, form)


@pytest.fixture(scope="module")
def pair():
    """A private key and its public half, in PEM."""
    return make_key()


def claim(**claims):
    """What a token says: Ann, for a minute. None leaves a claim out."""
    usual = {"sub": "ann", "exp": time.time() + 60}
    return {name: value for name, value in (usual | claims).items() if value is not None}


def token(key=SECRET, algorithm="HS256", **claims):
    return jwt.encode(claim(**claims), key, algorithm)


def coded(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def forge(header, payload, key=SECRET, hash_name="sha256"):
    """A token put together by hand, with whatever header; signed with HMAC."""
    signed = f"{coded(header)}.{coded(payload)}"
    return f"{signed}.{coded(hmac.new(key, signed.encode(), hash_name).digest())}"


def who(text, issuer=HS):
    return identify(issuer, {"authorization": f"Bearer {text}"})


# ---- tokens ----------------------------------------------------------------------------------------------------------


def test_token_names_its_subject(pair):
    private, public = pair
    assert who(token()) == "ann"
    assert who(token(private, "RS256"), Issuer("RS256", public)) == "ann"
    assert who(forge({"alg": "HS256", "typ": "JWT"}, claim())) == "ann"  # the forger of this file can sign


@pytest.mark.parametrize("written", ["Bearer {}", "bearer {}", "BEARER   {} "])
def test_scheme_is_read_in_any_case(written):
    assert identify(HS, {"authorization": written.format(token())}) == "ann"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YW5uOng=", "Token x", "Bearer\t"])
def test_request_without_a_token_is_told_how_to_give_one(header):
    with pytest.raises(UnauthorizedError, match="^a token is needed: Authorization: Bearer TOKEN$"):
        identify(HS, {} if header is None else {"authorization": header})


@pytest.mark.parametrize(
    "alg", ["none", "NoNe", "NONE", "", None, "HS384", "HS512", "RS256", "hs256", ["HS256"], 5, {}]
)
def test_other_algorithm_is_refused(alg):
    header = {"alg": alg, "typ": "JWT"}
    unsigned = f"{coded(header)}.{coded(claim())}."
    for text in (forge(header, claim()), forge(header, claim(), hash_name="sha512"), unsigned, unsigned[:-1]):
        with pytest.raises(UnauthorizedError, match="^the token is not valid: "):
            who(text)


def test_public_key_is_no_secret(pair):
    """Whoever knows the public key must not sign with it, as if it were that of HS256."""
    private, public = pair
    for key in (public, public.strip(), b"", SECRET):
        for alg in ("HS256", "RS256", "none"):
            with pytest.raises(UnauthorizedError, match="^the token is not valid: "):
                who(forge({"alg": alg, "typ": "JWT"}, claim(), key), Issuer("RS256", public))
    with pytest.raises(UnauthorizedError, match="^the token is not valid: "):
        who(token(private, "RS256"))


@pytest.mark.parametrize("own", ["jwk", "jku", "x5u", "x5c", "kid"])
def test_key_that_a_token_brings_along_is_not_used(own):
    key = b"a key of the attacker, long enough too"
    brought = {"kty": "oct", "k": coded(key)} if own == "jwk" else "http://127.0.0.1:1/key"
    with pytest.raises(UnauthorizedError, match="Signature verification failed|header"):
        who(forge({"alg": "HS256", own: brought}, claim(), key))


def test_other_key_is_refused(pair):
    other, _ = make_key()
    with pytest.raises(UnauthorizedError, match="Signature verification failed"):
        who(token(b"another secret that is long enough"))
    with pytest.raises(UnauthorizedError, match="Signature verification failed"):
        who(token(other, "RS256"), Issuer("RS256", pair[1]))


def test_edited_token_is_refused():
    header, _, signature = token().split(".")
    flipped = bytearray(base64.urlsafe_b64decode(signature + "="))
    flipped[0] ^= 1
    payload = coded(claim(sub="bob"))
    good = token().split(".")
    edited = [
        f"{header}.{payload}.{signature}",  # another payload
        f"{good[0]}.{good[1]}.{coded(bytes(flipped))}",
        f"{good[0]}.{good[1]}.",
        f"{good[0]}.{good[1]}",
        f"{coded({'alg': 'HS256', 'typ': 'JWT', 'x': 1})}.{good[1]}.{good[2]}",
        f"{good[0]}.{good[1]}.{good[2]}.{good[2]}",
        f"{good[0]}.{good[1]}.{good[2][:-4]}",
    ]
    for text in edited:
        with pytest.raises(UnauthorizedError, match="^the token is not valid: "):
            who(text)


@pytest.mark.parametrize(
    ("claims", "said"),
    [
        ({"exp": None}, 'missing the "exp" claim'),
        ({"sub": None}, 'missing the "sub" claim'),
        ({"exp": 0}, "expired"),
        ({"exp": -(10**30)}, "expired"),
        ({"exp": "soon"}, "exp"),
        ({"exp": [1]}, "exp"),
        ({"exp": float("inf")}, ""),
        ({"exp": float("nan")}, ""),
        ({"nbf": 10**12}, "not yet valid"),
        ({"nbf": "x"}, "nbf"),
        ({"iat": 10**12}, "not yet valid"),
        ({"aud": "another service"}, "audience"),
        ({"sub": ""}, "sub must be a name of 1 to 200 printable characters"),
        ({"sub": "  "}, "sub must be a name"),
        ({"sub": "x" * 201}, "sub must be a name"),
        ({"sub": "a\0b"}, "sub must be a name"),
        ({"sub": "a\nb"}, "sub must be a name"),
        ({"sub": "\ud800"}, "sub must be a name"),
        ({"sub": "\u202eann"}, "sub must be a name"),
        ({"sub": 5}, ""),
        ({"sub": ["ann"]}, ""),
        ({"sub": {"name": "ann"}}, ""),
        ({"sub": True}, ""),
    ],
    ids=ascii,
)
def test_claim_that_will_not_do_is_named(claims, said):
    with pytest.raises(UnauthorizedError, match=f"^the token is not valid: .*{said}"):
        who(forge({"alg": "HS256"}, claim(**claims)))


@pytest.mark.parametrize(
    "sub", ["ann", "x" * 200, "Zoë Ångström", "auth0|5f7c", "ann@example.com", "日本", "' OR 1=1 --"]
)
def test_name_of_any_script_is_taken(sub):
    assert who(token(sub=sub)) == sub


MEANT = HS._replace(audience="backgrid")


@pytest.mark.parametrize("aud", ["backgrid", ["backgrid"], ["another", "backgrid"]], ids=str)
def test_token_that_is_meant_for_the_service_is_taken(aud):
    assert who(token(aud=aud), MEANT) == "ann"


@pytest.mark.parametrize("aud", [None, "", "another", "Backgrid", "backgrid ", [], ["another"], [5], {}, 5], ids=repr)
def test_token_that_is_meant_for_another_service_is_refused(aud):
    with pytest.raises(UnauthorizedError, match="^the token is not valid: "):
        who(forge({"alg": "HS256"}, claim(aud=aud)), MEANT)


@pytest.mark.parametrize("claim_name", ["exp", "nbf", "iat"])
def test_clocks_may_differ_by_less_than_a_minute(claim_name):
    sign = -1 if claim_name == "exp" else 1
    assert auth.LEEWAY == 30
    assert who(token(**{claim_name: time.time() + sign * 15})) == "ann"
    with pytest.raises(UnauthorizedError, match="expired|not yet valid"):
        who(token(**{claim_name: time.time() + sign * 60}))


def test_payload_that_is_no_object_is_refused():
    deep = b"[" * 20_000
    for payload in ([], "ann", 5, None, b"", b"{", b"\xff", deep):
        with pytest.raises(UnauthorizedError, match="^the token is not valid: "):
            who(forge({"alg": "HS256"}, payload))
    for header in (
        [],
        "HS256",
        None,
        b"{",
        b"\xff",
        deep,
        {"alg": "HS256", "crit": ["x"]},
        {"alg": "HS256", "b64": False},
    ):
        with pytest.raises(UnauthorizedError, match="^the token is not valid: "):
            who(forge(header, claim()))


@given(st.text(max_size=100) | st.from_regex(r"[A-Za-z0-9_=-]{0,60}(\.[A-Za-z0-9_=-]{0,60}){0,3}", fullmatch=True))
def test_any_other_text_is_no_token(text):
    with pytest.raises(UnauthorizedError):
        who(text)


# ---- settings --------------------------------------------------------------------------------------------------------


def test_without_settings_no_token_is_asked_for(monkeypatch):
    monkeypatch.delenv("BACKGRID_JWT_SECRET", raising=False)
    monkeypatch.delenv("BACKGRID_JWT_PUBLIC_KEY", raising=False)
    assert find_issuer() is None


@pytest.mark.parametrize(("audience", "read"), [("", None), ("backgrid", "backgrid"), ("a, b", "a, b")])
def test_audience_is_read(monkeypatch, tmp_path, pair, audience, read):
    monkeypatch.setenv("BACKGRID_JWT_AUDIENCE", audience)
    monkeypatch.setenv("BACKGRID_JWT_SECRET", SECRET.decode())
    assert find_issuer() == Issuer("HS256", SECRET, read)
    (tmp_path / "key.pem").write_bytes(pair[1])
    monkeypatch.setenv("BACKGRID_JWT_SECRET", "")
    monkeypatch.setenv("BACKGRID_JWT_PUBLIC_KEY", str(tmp_path / "key.pem"))
    assert find_issuer() == Issuer("RS256", pair[1], read)


@pytest.mark.parametrize(("secret", "size"), [("x" * 31, 31), ("é" * 15, 30), ("x", 1)])
def test_short_secret_is_refused(monkeypatch, secret, size):
    monkeypatch.setenv("BACKGRID_JWT_SECRET", secret)
    with pytest.raises(ParameterError, match=f"^BACKGRID_JWT_SECRET must have 32 bytes or more, got {size}$"):
        find_issuer()


@pytest.mark.parametrize("secret", [b"x" * 32, "é".encode() * 16, b"\xff" * 32, b"x" * 10_000])
def test_secret_of_any_bytes_is_taken(monkeypatch, secret):
    monkeypatch.setenv("BACKGRID_JWT_SECRET", secret.decode("utf-8", "surrogateescape"))
    issuer = find_issuer()
    assert issuer == Issuer("HS256", secret)
    assert who(token(secret), issuer) == "ann"


def test_public_key_is_read_from_its_file(monkeypatch, tmp_path, pair):
    (tmp_path / "key.pem").write_bytes(pair[1])
    monkeypatch.setenv("BACKGRID_JWT_PUBLIC_KEY", str(tmp_path / "key.pem"))
    assert who(token(pair[0], "RS256"), find_issuer()) == "ann"
    monkeypatch.setenv("BACKGRID_JWT_SECRET", "x" * 32)
    with pytest.raises(ParameterError, match="give BACKGRID_JWT_SECRET or BACKGRID_JWT_PUBLIC_KEY, not both"):
        find_issuer()


def test_file_without_a_good_public_key_is_refused(monkeypatch, tmp_path, pair):
    path = tmp_path / "key.pem"
    monkeypatch.setenv("BACKGRID_JWT_PUBLIC_KEY", str(path))

    def refusal():
        with pytest.raises(ParameterError) as refused:
            find_issuer()
        return str(refused.value)

    assert "must be the path of an RSA key in PEM" in refusal()  # there is no file
    for content in (b"", b"no key", b"\xff" * 100, pair[1][:-40]):
        path.write_bytes(content)
        assert "must be the path of an RSA key in PEM" in refusal()
    path.write_bytes(pair[0])
    assert refusal() == "BACKGRID_JWT_PUBLIC_KEY holds a private key: give its public half"
    path.write_bytes(make_key(1024)[1])
    assert refusal() == "BACKGRID_JWT_PUBLIC_KEY must have 2,048 bits or more, got 1,024"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.5.5.5", "::1", "localhost"])
def test_own_machine_needs_no_tokens(host):
    check_host(host, None)
    assert own_names(host) == {"localhost", "127.0.0.1", "::1", host}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "", "0", "example.com", "127.0.0.1.example.com"])
def test_other_addresses_need_tokens(host):
    check_host(host, HS)
    with pytest.raises(
        ParameterError, match=r"to listen on '.*', set BACKGRID_JWT_SECRET or .*; without them only on 127"
    ):
        check_host(host, None)


@pytest.mark.parametrize(("text", "limit"), [("", None), ("1", 1), ("600", 600)])
def test_limit_is_read(monkeypatch, text, limit):
    monkeypatch.setenv("BACKGRID_RATE_LIMIT", text)
    assert read_limit() == limit


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "ten", " ", "1e3", "٣", "9" * 10, "9" * 5000])
def test_limit_that_is_no_number_of_jobs_is_refused(monkeypatch, text):
    monkeypatch.setenv("BACKGRID_RATE_LIMIT", text)
    with pytest.raises(ParameterError, match="BACKGRID_RATE_LIMIT must be a whole number of jobs a minute, got "):
        read_limit()


# ---- the service with tokens -----------------------------------------------------------------------------------------


@pytest.fixture
def engine(tmp_path):
    engine = store.open_store(f"sqlite:///{tmp_path / 'jobs.db'}")
    yield engine
    engine.dispose()


@pytest.fixture
def quick(monkeypatch):
    """Jobs end at once, with a page if one is wanted."""

    def run_job(job):
        known = {"job_id": job.id, "symbol": job.symbol, "strategy": job.strategy}
        return Outcome(BacktestResponse(status="completed", **known), b"<p>" if job.report else None)

    monkeypatch.setattr(api, "run_job", run_job)


@pytest.fixture(params=["HS256", "RS256"])
def keys(request, pair):
    """The key that signs, and that of another; and the issuer whom a service trusts."""
    if request.param == "HS256":
        return SECRET, b"another secret that is long enough", HS
    return pair[0], make_key()[0], Issuer("RS256", pair[1])


def distrusted(key, other, issuer):
    """Tokens that no service may take, by what is wrong with them."""
    alg = issuer.algorithm
    head, body, signature = token(key, alg).split(".")
    first = "B" if signature[0] == "A" else "A"  # the last digit may hold bits that do not count
    return {
        "unsigned": jwt.encode(claim(), None, "none"),
        "NoNe": f"{coded({'alg': 'NoNe', 'typ': 'JWT'})}.{coded(claim())}.",
        "unsigned, but says otherwise": f"{head}.{body}.",
        "another key": token(other, alg),
        "edited payload": f"{head}.{coded(claim(sub='bob'))}.{signature}",
        "edited signature": f"{head}.{body}.{first}{signature[1:]}",
        "expired": token(key, alg, exp=time.time() - 60),
        "not yet valid": token(key, alg, nbf=time.time() + 60),
        "never expires": token(key, alg, exp=None),
        "for another service": token(key, alg, aud="another"),
        "of nobody": token(key, alg, sub=None),
    }


def test_service_lets_nobody_in_with_a_token_that_is_not_to_be_trusted(engine, quick, keys):
    key, other, issuer = keys
    wrong = distrusted(key, other, issuer)
    if issuer.algorithm == "RS256":
        wrong["signed with the public key"] = forge({"alg": "HS256", "typ": "JWT"}, claim(), issuer.key)
    with live(api.create_app(engine, issuer=issuer)) as url, httpx.Client(base_url=f"{url}/api/v1") as client:

        def enter(text):
            return client.post("/jobs", json=AAPL, headers={"Authorization": f"Bearer {text}"})

        for what, text in wrong.items():
            answer = enter(text)
            assert (answer.status_code, answer.headers.get("www-authenticate")) == (401, "Bearer"), what
            assert list(answer.json()) == ["detail"]
            assert re.fullmatch(r"the token is not valid: [^\n]{5,100}", answer.json()["detail"]), what
            assert text not in answer.text
        good = enter(token(key, issuer.algorithm))
        assert good.status_code == 200
        assert store.find_job(engine, good.json()["job_id"]).number == 1  # nothing was entered before


def test_service_takes_tokens_that_are_meant_for_it(engine, quick):
    with live(api.create_app(engine, issuer=MEANT)) as url, httpx.Client(base_url=f"{url}/api/v1") as client:
        for aud, code in (("backgrid", 200), ("another", 401), (None, 401)):
            headers = {"Authorization": f"Bearer {token(aud=aud)}"}
            assert client.get("/jobs", headers=headers).status_code == code


@pytest.fixture
def service(engine, quick):
    """Asks as somebody: `service("ann", "GET", "/jobs")`."""
    with live(api.create_app(engine, issuer=HS)) as url, httpx.Client(base_url=f"{url}/api/v1", timeout=60) as client:

        def ask(name, method, path, **how):
            headers = {"Authorization": f"Bearer {token(sub=name)}"} if name else {}
            return client.request(method, path, headers=headers, **how)

        yield ask


def test_every_door_but_health_asks_for_a_token(service):
    job_id = service("ann", "POST", "/jobs", json=AAPL).json()["job_id"]
    doors = [("POST", "/jobs"), ("GET", "/jobs"), ("GET", f"/jobs/{job_id}"), ("GET", f"/jobs/{job_id}/status")]
    for method, path in [*doors, ("GET", f"/jobs/{job_id}/report"), ("POST", f"/jobs/{job_id}/cancel")]:
        answer = service(
            None, method, path, **({"json": {"symbol": "?"}} if path == "/jobs" and method == "POST" else {})
        )
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.json() == {"detail": "a token is needed: Authorization: Bearer TOKEN"}
    assert service(None, "GET", "/health").status_code == 200


def test_job_of_another_user_does_not_exist(service):
    job_id = service("ann", "POST", "/jobs", json={**AAPL, "report": True}).json()["job_id"]
    mine = [("GET", f"/jobs/{job_id}{what}") for what in ("", "/status", "/report")]
    for method, path in [*mine, ("POST", f"/jobs/{job_id}/cancel")]:
        refused = service("bob", method, path)
        assert (refused.status_code, refused.json()) == (404, {"detail": f"there is no job '{job_id}'"})
        assert service("ann", method, path).status_code == (409 if method == "POST" else 200)
    refused = service("bob", "GET", f"/jobs?before={job_id}")
    assert (refused.status_code, refused.json()) == (404, {"detail": f"before: there is no job '{job_id}'"})
    assert service("ann", "GET", f"/jobs?before={job_id}").json() == {"jobs": [], "next": None}
    assert service("bob", "GET", "/jobs").json() == {"jobs": [], "next": None}
    assert [job["job_id"] for job in service("ann", "GET", "/jobs").json()["jobs"]] == [job_id]


def test_equal_requests_of_two_users_are_two_jobs(service):
    ids = [service(name, "POST", "/jobs", json=AAPL).json()["job_id"] for name in ("ann", "bob", "ann", "ANN")]
    assert ids[0] == ids[2] and len(set(ids)) == 3


def test_document_names_the_scheme_only_where_tokens_are_asked_for(engine):
    document = api.create_app(engine, issuer=HS).openapi()
    assert document["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"
    doors = {path: how for paths in document["paths"].values() for path, how in paths.items()}
    assert doors["post"]["security"] == [{"HTTPBearer": []}]
    assert "security" not in document["paths"]["/api/v1/health"]["get"]
    assert "securitySchemes" not in api.create_app(engine).openapi()["components"]


# ---- so often a minute -----------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """The time of the store and of the limit, which a test sets."""

    class Clock:
        moment = NOON

    monkeypatch.setattr(store, "utc_now", lambda: Clock.moment)
    return Clock


def test_limit_says_how_long_to_wait_and_that_is_right(engine, quick, clock):
    app = api.create_app(engine, limit=2)
    with live(app) as url, httpx.Client(base_url=f"{url}/api/v1", timeout=60) as client:

        def enter(seconds, fees):
            clock.moment = NOON + dt.timedelta(seconds=seconds)
            answer = client.post("/jobs", json={**AAPL, "fees": fees})
            return answer.status_code, answer.headers.get("retry-after"), answer.json().get("detail")

        assert enter(0.0, 0.01)[0] == enter(10.5, 0.02)[0] == 200
        assert enter(11.2, 0.03) == (429, "49", "2 jobs a minute may be entered; wait 49 s")
        assert enter(11.2, 0.01)[0] == 429  # also where the answer is known: who asks too often, waits
        assert enter(59.999, 0.03) == (429, "1", "2 jobs a minute may be entered; wait 1 s")
        assert enter(60.2, 0.03)[0] == 200
        assert enter(61.0, 0.04)[:2] == (429, "10")
        assert enter(71.0, 0.04)[0] == 200
        assert client.get("/jobs").status_code == 200


def test_refused_request_does_not_count(engine, quick):
    with live(api.create_app(engine, limit=1)) as url, httpx.Client(base_url=f"{url}/api/v1", timeout=60) as client:
        assert [client.post("/jobs", json={**AAPL, "fees": 2.0}).status_code for _ in range(3)] == [422] * 3
        assert client.post("/jobs", json=AAPL).status_code == 200
        refused = client.post("/jobs", json=AAPL)
        assert refused.json()["detail"].startswith("1 job a minute may be entered; wait ")


def test_one_user_does_not_use_up_the_limit_of_another(engine, quick):
    with live(api.create_app(engine, issuer=HS, limit=1)) as url:

        def enter(name):
            headers = {"Authorization": f"Bearer {token(sub=name)}"}
            return httpx.post(f"{url}/api/v1/jobs", json=AAPL, headers=headers, timeout=60).status_code

        assert [enter(name) for name in ("ann", "ann", "bob", "bob")] == [200, 429, 200, 429]


def test_no_more_pass_at_once_than_may(engine, quick):
    with live(api.create_app(engine, limit=5)) as url, ThreadPoolExecutor(20) as threads:
        asked = [{**AAPL, "fees": n / 100} for n in range(20)]
        codes = [*threads.map(lambda body: httpx.post(f"{url}/api/v1/jobs", json=body, timeout=60).status_code, asked)]
    assert sorted(codes) == [200] * 5 + [429] * 15


def test_clock_that_was_set_back_makes_nobody_wait_longer_than_a_minute(engine, clock):
    clock.moment = NOON + dt.timedelta(days=1)
    store.submit(engine, api.JobRequest(**AAPL), owner="ann")
    clock.moment = NOON
    with pytest.raises(auth.TooManyError) as refused:
        auth.check_rate(engine, "ann", 1)
    assert refused.value.wait == 60
