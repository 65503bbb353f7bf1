"""What a user can do about an error of an object store or a web server."""

from __future__ import annotations

import re
from itertools import chain

_CREDENTIALS = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE; for a public bucket "
    "AWS_NO_SIGN_REQUEST=YES"
)
# Words of S3's error codes, of HTTP's and of curl's; the first that are found count.
_S3 = {
    "NoSuchBucket|Bucket does not exist": "There is no such bucket at this endpoint. Check its "
    "name, and AWS_ENDPOINT_URL",
    "PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint|HTTP code 301": (
        "The bucket is in another region. Set AWS_REGION to it"
    ),
    "InvalidAccessKeyId|SignatureDoesNotMatch|InvalidToken|ExpiredToken": (
        f"The store does not accept these credentials. {_CREDENTIALS}"
    ),
    "AccessDenied|PERMISSION_DENIED|UNAUTHENTICATED": (
        f"Access is denied: the credentials, if any were found, do not permit it. {_CREDENTIALS}"
    ),
    "RequestTimeTooSkewed": "This machine's clock is wrong. Set it",
    "Could not resolve|Could not connect|CURL error": (
        "The endpoint cannot be reached. Check AWS_ENDPOINT_URL and the network"
    ),
}
_GCS = {
    "PERMISSION_DENIED|UNAUTHENTICATED": "Access is denied. Set GOOGLE_APPLICATION_CREDENTIALS, or "
    "run gcloud auth application-default login; public buckets need neither",
}
_ANY = {
    "SlowDown|Too Many Requests|HTTP code 429|HTTP code 503": (
        "The server is throttling. Try again later, or with fewer workers"
    ),
    "PERMISSION_DENIED|UNAUTHENTICATED": "The server denies access to this URL",
    "Could not resolve|Could not connect|CURL error": (
        "The server cannot be reached. Check the URL and the network"
    ),
    "retry attempts failed": "The server keeps failing. Try again later",
}
_BY_SCHEME = {"s3": (_S3, _ANY), "gs": (_GCS, _ANY), "http": (_ANY,), "https": (_ANY,)}


def advice(location: str, reason: str) -> str:
    """What the reason means for a URL, and what to set; empty for paths and unknown reasons."""
    tables = _BY_SCHEME.get(location.partition("://")[0], ()) if "://" in location else ()
    known = chain.from_iterable(table.items() for table in tables)
    return next((text for words, text in known if re.search(words, reason)), "")
