"""The preview as JSON values."""

from migrate.effects import Changes, Edit, Effect, effect_json
from migrate.preview.preview import Preview
from migrate.text import diff


def to_json(preview: Preview) -> dict[str, object]:
    """Return the preview as JSON values; `changes` has the same shape in the result of a migration."""
    layout = preview.layout
    return {
        "name": preview.vm.name,
        "origin": preview.vm.origin,
        "can_go": preview.can_go,
        "os": {
            "id": preview.os.id,
            "version": preview.os.version_id,
            "pretty": preview.os.pretty,
            "arch": preview.os.arch,
        },
        "firmware": layout.firmware.value,
        "disk_bytes": layout.disk_size,
        "kernels": list(preview.kernels),
        "login": preview.login,
        "filesystems": [
            {
                "device": fs.device,
                "type": fs.type,
                "bytes": fs.size,
                "uuid": fs.uuid,
                "label": fs.label,
                "mountpoint": fs.mountpoint,
            }
            for fs in layout.filesystems
        ],
        "changes": changes_json(preview.changes),
    }


def changes_json(changes: Changes) -> dict[str, object]:
    """Return changes as JSON values: effects with their diffs, findings, facts and the plan's hash."""
    return {
        "plan": changes.plan,
        "effects": [_effect_with_diff(effect) for effect in changes.effects],
        "findings": [
            {
                "code": f.code,
                "severity": f.severity.value,
                "waived": f.waived,
                "by": f.by,
                "text": f.text,
                "remedy": f.remedy,
            }
            for f in changes.findings
        ],
        "facts": [{"name": fact.name, "text": fact.text, "by": fact.by} for fact in changes.facts],
    }


def _effect_with_diff(effect: Effect) -> dict[str, object]:
    values = effect_json(effect)
    if isinstance(effect, Edit):
        values["diff"] = diff(effect.path, effect.before, effect.after)
    return values
