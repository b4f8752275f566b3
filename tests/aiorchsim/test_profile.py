"""The profile: complete defaults, every problem at once, each with its place and remedy."""

import dataclasses
import tomllib

import pytest

from aiorchsim.fault_rules import FaultRule
from aiorchsim.faults import Fault
from aiorchsim.profile import ModelProfile, Profile, ProfileError, explained, load, read


def problems(document):
    with pytest.raises(ProfileError) as caught:
        read(document)
    return caught.value.problems


def test_nothing_said_is_one_quick_model_without_limits():
    assert read({}) == Profile()
    (model,) = Profile().models
    assert model.name == "*"
    assert model.latency_s == 0.05
    assert model.requests_per_minute is None


def test_all_keys_are_taken():
    profile = read(
        {
            "sim": {
                "seed": 7,
                "rate_limit_headers": "none",
                "api_keys": ["sk-1"],
                "replay_missing": "compute",
                "keep_alive_s": 5,
            },
            "models": [
                {"name": "small", "latency_s": 1, "requests_per_minute": 500, "input_usd_per_1m": 0.15, "quality": 0.9},
                {"name": "*", "fault": "hang", "fault_first": 2, "rate_limit_headers": "full", "context_tokens": 100},
            ],
        }
    )
    assert profile.seed == 7
    assert profile.api_keys == ("sk-1",)
    assert profile.models[0] == ModelProfile(
        name="small", latency_s=1, requests_per_minute=500, input_usd_per_1m=0.15, quality=0.9
    )
    assert profile.models[1].fault == "hang"


def test_every_problem_is_told_at_once_with_its_remedy():
    found = problems(
        {
            "sim": {"sed": 1, "rate_limit_headers": "ful", "seed": 1.5, "api_keys": "sk"},
            "models": [
                {"latncy_s": 1, "quality": 1.5, "name": "", "requests_per_minute": 0},
                {"name": "a", "fault": "hangs", "prices": {}, "latency_s": float("nan"), "count_refused": 1},
                {"name": "a", "tokens_per_minute": True},
            ],
            "model": [],
        }
    )
    assert found == [
        "profile: model: unknown section; did you mean models?",
        "profile: sim.sed: unknown key; did you mean seed?",
        "profile: sim.rate_limit_headers: must be one of full, retry_after, none; did you mean full?, got 'ful'",
        "profile: sim.seed: must be a whole number, got 1.5",
        "profile: sim.api_keys: must be an array of strings, got 'sk'",
        "profile: models[0].latncy_s: unknown key; did you mean latency_s?",
        "profile: models[0].quality: must be at most 1, got 1.5",
        "profile: models[0].name: must be a string that is not empty, got ''",
        "profile: models[0].requests_per_minute: must be more than 0; leave it out for no limit, got 0",
        f"profile: models[1].fault: must be one of {', '.join(Fault)}; did you mean hang?, got 'hangs'",
        "profile: models[1].prices: unknown key; write input_usd_per_1m and output_usd_per_1m, as in aiorch.toml",
        "profile: models[1].latency_s: must be a number, got nan",
        "profile: models[1].count_refused: must be true or false, got 1",
        "profile: models[2].tokens_per_minute: must be a whole number, got True",
        'profile: models[2].name: "a" has an entry already; give each model one',
    ]


@pytest.mark.parametrize("models", [[], {}, [1], "small"])
def test_models_are_tables(models):
    assert problems({"models": models}) == ["profile: models: must be one or more tables, each begun with [[models]]"]


def test_sim_is_a_table():
    assert problems({"sim": 3}) == ["profile: sim: must be a table: [sim]"]


def test_files_are_read_and_replays_are_found_beside_them(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text('[sim]\nreplay = "rows.jsonl"\n')
    assert load(path).replay == str(tmp_path / "rows.jsonl")
    path.write_text("[sim\n")
    with pytest.raises(ProfileError, match="not TOML"):
        load(path)
    path.write_bytes(b"\xff")
    with pytest.raises(ProfileError, match="not UTF-8 at byte 0"):
        load(path)
    path.write_text("[sim]\nsed = 1\n")
    with pytest.raises(ProfileError, match=str(path)):
        load(path)
    with pytest.raises(OSError, match="missing"):
        load(tmp_path / "missing.toml")


def test_the_manual_is_a_profile_with_every_key_at_its_default():
    manual = explained()
    assert read(tomllib.loads(manual)) == Profile()
    for record in (Profile, ModelProfile, FaultRule):
        for field in dataclasses.fields(record):
            assert not field.metadata or f"{field.name} = " in manual
            assert not field.metadata or field.metadata["meaning"] in manual
    lines = [line.removeprefix("# ") for line in manual.splitlines()]
    bare = "\n".join(line for line in lines if " = " in line or line.startswith("["))
    assert {problem.split(":")[1].split(".")[-1] for problem in problems(tomllib.loads(bare))} <= {
        field.name
        for record in (Profile, ModelProfile, FaultRule)
        for field in dataclasses.fields(record)
        if field.default in (None, "")
    }


def test_rules_of_faults_are_read_and_what_is_wrong_with_them_is_told():
    profile = read(
        {"faults": [{"fault": "stall", "model": "a", "every": 3}], "models": [{"name": "a", "fault": "hang"}]}
    )
    assert profile.all_faults() == (
        FaultRule(fault="stall", model="a", every=3),
        FaultRule(fault="hang", model="a"),
    )
    assert problems({"faults": [{"falt": "stall"}, {"fault": "stal", "every": 0, "rate": 2}, {"fault": "hang"}]}) == [
        "profile: faults[0].falt: unknown key; did you mean fault?",
        f"profile: faults[0].fault: is missing; it must be one of {', '.join(Fault)}",
        f"profile: faults[1].fault: must be one of {', '.join(Fault)}; did you mean stall?, got 'stal'",
        "profile: faults[1].every: must be more than 0; leave it out for no limit, got 0",
        "profile: faults[1].rate: must be at most 1, got 2",
    ]
    (problem,) = problems({"faults": {"fault": "hang"}})
    assert problem == 'profile: faults: must be a list of rules, such as {fault = "error_503", for_s = 60}'
