"""Words what S3 answers: what to correct, or that asking again may help."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from segops.data.sources.download import Interrupted
from segops.errors import UserError

_NO_S3 = "what answers isn't S3 (a web page, a proxy's or another server's); correct AWS_ENDPOINT_URL or the proxy"
_FIXES = {
    "404": "there is no such object; correct the URI",
    "NoSuchKey": "there is no such object; correct the URI",
    "NoSuchVersion": "there is no such object; correct the URI",
    "NoSuchBucket": "there is no such bucket; correct the URI or AWS_ENDPOINT_URL",
    "InvalidBucketName": "no bucket can have this name; correct the URI",
    "400": "the server refuses the request without a reason, as it does an expired session token or another region; "
    "correct AWS_SESSION_TOKEN and AWS_REGION",
    "401": "the server wants a login of another kind than S3's; correct AWS_ENDPOINT_URL",
    "403": "access denied; correct AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ask for s3:GetObject on it",
    "AccessDenied": "access denied; ask for s3:GetObject and s3:ListBucket on it",
    "AllAccessDisabled": "access to it is switched off; ask its owner",
    "AccountProblem": "its owner's account has a problem; ask its owner",
    "SignatureDoesNotMatch": "the secret isn't the access key's; correct AWS_SECRET_ACCESS_KEY or AWS_ACCESS_KEY_ID",
    "InvalidAccessKeyId": "the access key is unknown; correct AWS_ACCESS_KEY_ID",
    "ExpiredToken": "the session token has expired; log in again (AWS_SESSION_TOKEN)",
    "TokenRefreshRequired": "the session token has expired; log in again (AWS_SESSION_TOKEN)",
    "InvalidToken": "the session token is not valid; correct or unset AWS_SESSION_TOKEN",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "InvalidObjectState": "it is in an archive class such as Glacier; restore it first",
    "KMS.DisabledException": "the key that it is encrypted with is switched off; ask its owner",
    "PreconditionFailed": "the object changed while it was fetched; run the same command again",
    "412": "the object changed while it was fetched; run the same command again",
    "InvalidRange": "the object changed while it was fetched; run the same command again",
    "416": "the object changed while it was fetched; run the same command again",
    "405": _NO_S3,
    "407": "the proxy wants a login; set HTTPS_PROXY with user and password",
    "410": "it is gone; correct the URI",
    "501": _NO_S3,
}
_REGION = {
    "301",
    "302",
    "307",
    "308",
    "PermanentRedirect",
    "TemporaryRedirect",
    "Redirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
}
_PASSING = {
    *("408", "425", "429", "500", "502", "503", "504"),
    *("SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "Throttling", "TooManyRequests"),
}


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what boto3 raises into Interrupted, or into a UserError with the fix where asking again can't help."""
    from botocore import exceptions as aws
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except aws.ClientError as error:
        raise _answered(uri, error) from None
    except ResponseParserError:
        raise UserError(f"{uri}: {_NO_S3}") from None
    except (aws.NoCredentialsError, aws.PartialCredentialsError):
        raise UserError(
            f"{uri}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile"
        ) from None
    except (aws.CredentialRetrievalError, aws.TokenRetrievalError, aws.UnauthorizedSSOTokenError) as error:
        raise UserError(f"{uri}: no credentials ({line(error)}); log in again") from None
    except aws.SSLError as error:
        raise UserError(f"{uri}: TLS certificate not accepted ({line(error)}); set AWS_CA_BUNDLE") from None
    except (aws.ParamValidationError, aws.NoRegionError, aws.ProfileNotFound) as error:
        raise UserError(f"{uri}: {line(error)}") from None
    except (aws.HTTPClientError, aws.BotoCoreError, HTTPError) as error:
        raise Interrupted(line(error)) from None
    except (KeyError, TypeError, AttributeError):  # an answer without what S3 always sends
        raise UserError(f"{uri}: {_NO_S3}") from None


def _answered(uri: str, error: Any) -> Exception:
    """Choose what to raise for an answer that says no."""
    answer = error.response.get("ResponseMetadata", {})
    code = str(error.response.get("Error", {}).get("Code", ""))
    status, headers = str(answer.get("HTTPStatusCode", "")), answer.get("HTTPHeaders", {})
    if code in _PASSING or status in _PASSING:
        return Interrupted(f"the server answered {status} {code if code != status else ''}".rstrip())
    if code in _REGION or status in _REGION:
        region = headers.get("x-amz-bucket-region") or error.response.get("Error", {}).get("Region")
        where = region or "the bucket's region (the server doesn't name it)"
        return UserError(f"{uri}: the bucket is in another region; set AWS_REGION to {where}")
    if str(headers.get("content-type", "")).startswith("text/html") and status not in ("401", "403", "407"):
        return UserError(f"{uri}: {_NO_S3}")
    fix = _FIXES.get(code) or _FIXES.get(status)
    return UserError(f"{uri}: {fix}" if fix else f"{uri}: {line(error)}; correct the URI or AWS_ENDPOINT_URL")


def line(error: Exception) -> str:
    """Return an error's text in a line of at most 200 characters."""
    return " ".join(str(error).split())[:200]
