from __future__ import annotations

import pytest

from k8snetlab.manifests.validate import addresses, names


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        pytest.param(
            names.dns_label, ["a", "0a", "a-b", "a" * 63], ["", "a.b", "A", "-a", "a-", "a" * 64, "a\n"], id="label"
        ),
        pytest.param(names.dns_1035_label, ["a", "a0"], ["", "0a", "a.b", "a_b"], id="label-1035"),
        pytest.param(
            names.dns_subdomain, ["a", "0.a", "a-b.c"], ["", "a..b", ".a", "a.", "a_b", "a" * 254], id="subdomain"
        ),
        pytest.param(names.wildcard_subdomain, ["*.a", "*.a.b"], ["*", "a", "*.*.a", "*a.b", "*."], id="wildcard"),
        pytest.param(
            names.qualified_name,
            ["a", "A_b.c", "a.io/b", "a" * 63],
            ["", "/a", "a/", "a/b/c", "A.io/b", "-a", "a" * 64, "a b"],
            id="qualified",
        ),
        pytest.param(
            names.label_value, ["", "A", "a_b.c-d", "1"], ["-", "a b", "a/b", "a" * 64, "a\n"], id="label-value"
        ),
        pytest.param(
            names.port_name, ["http", "a1", "1a"], ["", "80", "HTTP", "a--b", "-a", "a-", "a" * 16], id="port"
        ),
        pytest.param(
            names.domain_prefixed_path, ["a.io/b", "a.io/b/c"], ["a", "/b", "a/", "A/b", "a/b c"], id="controller"
        ),
        pytest.param(
            addresses.ip, ["10.0.0.1", "::1", "fd00::a"], ["", "10.0.0", "010.0.0.1", "fe80::1%eth0", "a"], id="ip"
        ),
        pytest.param(
            addresses.cidr,
            ["10.0.0.1/8", "0.0.0.0/0", "fd00::/64"],
            ["", "10.0.0.0", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "fe80::1%a/64", "/8", "10.0.0.0/-1"],
            id="cidr",
        ),
    ],
)
def test_rules(rule: object, good: list[str], bad: list[str]) -> None:
    assert callable(rule)
    assert [text for text in good if rule(text) is not None] == []
    assert [text for text in bad if rule(text) is None] == []


@pytest.mark.parametrize(
    ("text", "special"),
    [
        pytest.param("0.0.0.0", True, id="unspecified"),
        pytest.param("127.1.2.3", True, id="loopback"),
        pytest.param("169.254.169.254", True, id="link-local"),
        pytest.param("224.0.0.251", True, id="link-local-multicast"),
        pytest.param("ff02::fb", True, id="link-local-multicast-6"),
        pytest.param("239.1.1.1", False, id="other-multicast"),
        pytest.param("10.0.0.1", False, id="private"),
        pytest.param("2001:db8::1", False, id="ipv6"),
    ],
)
def test_special_ip(text: str, special: bool) -> None:
    address = addresses.parse_ip(text)
    assert address is not None
    assert (addresses.special_ip(address) is not None) == special
