"""Where OpenAI's interface is, and how the key is shown: at OpenAI and its like, and at Azure."""

from urllib.parse import quote, urlencode

from bide.providers.base import Call


def path_of(call: Call, path: str, *, deployment: bool = False) -> str:
    """The path below the base address. `deployment`: Azure has it below the model's deployment."""
    version = call.options.get("api_version")
    if not version:
        return path
    below = f"deployments/{quote(call.model, safe='')}/" if deployment else ""
    return f"{below}{path}?{urlencode({'api-version': str(version)})}"


def headers(call: Call) -> dict[str, str]:
    """Headers that show the key; an empty one is left out (`bide.providers.exchange`). None: the session's own do."""
    azure = bool(call.options.get("api_version"))
    way = call.options.get("auth") or ("api_key" if azure else "bearer")
    return {"Authorization": "", "api-key": call.key} if way == "api_key" and call.key else {}
