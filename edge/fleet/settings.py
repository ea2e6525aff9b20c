"""The manager's configuration: one strict schema, explained in `firmware_config/fleet/fleet.yaml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import yaml

from edge.config import Config, Mqtt
from edge.config_section import ConfigError, Identifier, Port
from edge.fleet.alarms import RULES, Rule
from edge.messages.types import Digest

Days = Annotated[int, msgspec.Meta(ge=1, le=36500)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Threshold(_Section, frozen=True, kw_only=True):
    """What replaces a rule's own figures; absent keeps the rule's.

    Attributes:
        raise_above: The alarm is for values above this.
        clear_below: It goes when the value has fallen below this.
        grace_seconds: How long a value must stay above before anybody is told.
        calm_seconds: How long it must stay below before the alarm goes.
    """

    raise_above: float | None = None
    clear_below: float | None = None
    grace_seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None
    calm_seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None


class Console(_Section, frozen=True, kw_only=True):
    """The manager's page.

    Attributes:
        host: The address to listen on. The page speaks HTTP: put a TLS front before it.
        port: Its port.
        metrics_token_file: Its first line is the token by which Prometheus reads `/metrics`; absent for none.
        session_minutes: A signed-in page without any action is signed out after this.
    """

    host: str = "127.0.0.1"
    port: Port = 8090
    metrics_token_file: Path | None = None
    session_minutes: Annotated[int, msgspec.Meta(ge=1, le=1440)] = 30


class Commands(_Section, frozen=True, kw_only=True):
    """Orders to boxes.

    Attributes:
        key_file: The fleet's private key (Ed25519, PEM) that signs orders; boxes have the public one.
        mqtt: How the dispatcher reaches the broker, with a certificate that may write commands; absent as in `mqtt`.
    """

    key_file: Path | None = None
    mqtt: Mqtt | None = None


class FleetConfig(_Section, frozen=True, kw_only=True):
    """Everything that collector and console are told.

    Attributes:
        mqtt: The broker, as a box is told of it. `session_expiry_hours` is how long the broker keeps for this collector
            what boxes say while it is away; `health_interval_seconds` is how often the boxes say how they are.
        state_dir: The accounts of the page, and the database unless another one is named.
        database: SQLAlchemy URL, `postgresql+psycopg://user@host/name`; absent means SQLite in `state_dir`.
        collector: This collector's name, an own one for each: the broker keeps a session under it.
        group: Collectors of one group share the work (MQTT 5 shared subscription); absent for one that works alone.
            Mosquitto 2.0.11, restarted, forgets shared subscriptions until their collectors are back: boxes keep
            meanwhile what it gives to nobody.
        health_days: History of health is kept for this long.
        summary_days: Single summaries are kept for this long, and known as duplicates; counts a day stay.
        alarms: Other thresholds, by the name of the rule.
        models: The digest (SHA-256 of its bundle.yaml) that each of these models is to have, by the model's id: a box
            that serves one of them with another digest has an alarm.
        console: The page.
        commands: Orders to boxes.
    """

    mqtt: Mqtt
    state_dir: Path = Path("fleet")
    database: str | None = None
    collector: Identifier = "collector-1"
    group: Identifier | None = None
    health_days: Days = 14
    summary_days: Days = 400
    alarms: dict[str, Threshold] = {}
    models: dict[Identifier, Digest] = {}
    console: Console = Console()
    commands: Commands = Commands()

    @property
    def database_url(self) -> str:
        """Where to."""
        return self.database or f"sqlite:///{self.state_dir / 'fleet.sqlite'}"

    @property
    def own_box(self) -> Config:
        """The manager as a box's configuration: what its accounts and audit trail are opened with."""
        return Config(site="fleet", box="manager", state_dir=self.state_dir)

    def rules(self) -> tuple[Rule, ...]:
        """The alarm rules with the thresholds of this configuration."""
        return tuple(_adjusted(rule, self.alarms.get(rule.name)) for rule in RULES)


def load(path: Path) -> FleetConfig:
    """Read and check a configuration file.

    Raises:
        ConfigError: It cannot be read, is not YAML, has an unknown key, or a value breaks its rule.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}): give a readable YAML file with --config") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}: correct it") from error
    try:
        config = msgspec.convert(document or {}, FleetConfig, strict=True, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {error}: correct it, fleet.yaml explains every key") from error
    link = config.mqtt
    if (link.certificate_file is None) != (link.key_file is None):
        raise ConfigError(f"{path}: mqtt: certificate_file and key_file belong together: give both")
    known = [rule.name for rule in RULES]
    for name in config.alarms:
        if name not in known:
            raise ConfigError(f"{path}: alarms.{name[:80]}: no such rule: one of {', '.join(known)}")
    for rule in config.rules():
        if rule.clear_below > rule.raise_above:
            figures = f"clear_below {rule.clear_below:g} and raise_above {rule.raise_above:g}"
            raise ConfigError(f"{path}: alarms.{rule.name}: {figures}: it could never clear: lower clear_below")
    return config


def _adjusted(rule: Rule, threshold: Threshold | None) -> Rule:
    given = {
        name: value for name, value in msgspec.structs.asdict(threshold or Threshold()).items() if value is not None
    }
    return msgspec.structs.replace(rule, **given)


def _decode(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError(f"Expected a {kind.__name__.lower()}")
