"""Where the credentials of S3 requests come from: the usual variables and files.

tensorstore 0.1.86 finds no profile, neither in its default chain nor by `AWS_PROFILE`, unless both
files are named to it; then requests would not be signed, and nothing would say so.
"""

from __future__ import annotations

import configparser
import os
from pathlib import Path

from blockwise_predict.errors import ArrayError, shown

_KEYS = ("aws_access_key_id", "role_arn")


def aws_credentials() -> dict[str, str]:
    """What tensorstore's context calls `aws_credentials`; empty for its default chain.

    Raises ArrayError if `AWS_PROFILE` names a profile that does not exist or has no keys.
    """
    if os.environ.get("AWS_NO_SIGN_REQUEST", "").lower() in ("yes", "true", "on", "1"):
        return {"type": "anonymous"}
    if os.environ.get("AWS_ACCESS_KEY_ID"):
        return {"type": "environment"}
    return _profile()


def _profile() -> dict[str, str]:
    asked = os.environ.get("AWS_PROFILE")
    name = asked or "default"
    credentials = _file("AWS_SHARED_CREDENTIALS_FILE", "credentials")
    config = _file("AWS_CONFIG_FILE", "config")
    in_config = name if name == "default" else f"profile {name}"
    found = {**_section(config, in_config), **_section(credentials, name)}
    if any(found.get(key) for key in _KEYS):
        files = {"config_file": str(config), "credentials_file": str(credentials)}
        return {"type": "profile", "profile": name, **files}
    if asked is None:
        return {}
    if not found:
        raise ArrayError(
            f"AWS_PROFILE {shown(name)}: there is no such profile in {credentials} or {config}."
        )
    raise ArrayError(
        f"AWS_PROFILE {shown(name)} has no keys in {credentials} or {config}; single sign-on and "
        "credential processes are not supported. Get keys first: "
        f'eval "$(aws configure export-credentials --profile {name} --format env)"'
    )


def _file(variable: str, name: str) -> Path:
    return Path(os.environ.get(variable) or Path("~/.aws", name)).expanduser()


def _section(file: Path, name: str) -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(file)
    except (OSError, configparser.Error, UnicodeDecodeError) as error:
        raise ArrayError(f"cannot read AWS's profiles in {file}: {error}") from error
    return dict(parser.items(name)) if parser.has_section(name) else {}
