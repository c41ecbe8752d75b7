"""Which authorities an owner trusts: those of now, not those of the moment in which the template was made."""

from __future__ import annotations

import os
import shutil
import ssl
from pathlib import Path

import pytest

from wsadapter.contract.endpoint import Tls
from wsadapter.testing.certificates import Authority, ca_file
from wsadapter.worker.connect.tls import make_context


def serial_numbers(context: ssl.SSLContext) -> list[str]:
    return [str(certificate["serialNumber"]) for certificate in context.get_ca_certs()]


def test_a_bundle_that_was_replaced_is_read_anew_and_one_that_was_not_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, renewed = tmp_path / "bundle.pem", tmp_path / "renewed.pem"
    shutil.copy(ca_file(Authority()), bundle)
    shutil.copy(ca_file(Authority()), renewed)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    first = make_context(Tls())
    assert make_context(Tls()) is first
    os.replace(renewed, bundle)  # as a package manager does
    second = make_context(Tls())
    assert len(serial_numbers(second)) == 1
    assert serial_numbers(second) != serial_numbers(first)
    assert make_context(Tls()) is second
    assert second.minimum_version == ssl.TLSVersion.TLSv1_2
