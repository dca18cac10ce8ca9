"""Access to Ray's dashboard."""


def describe_dashboard(address: str) -> str:
    """Returns a sentence with the URL of Ray's dashboard and the token that the dashboard asks for.

    The dashboard accepts a token only from its form or from a header, so a link cannot contain the token.

    Args:
        address: the dashboard's host and port.
    """
    from ray._private.authentication.authentication_constants import AUTHORIZATION_HEADER_NAME
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled

    header = get_auth_headers_if_auth_enabled({}).get(AUTHORIZATION_HEADER_NAME)
    if header is None:
        return f"Ray's dashboard: http://{address}"
    return f"Ray's dashboard: http://{address} - it asks for this token: {header.split()[-1]}"
