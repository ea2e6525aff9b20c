"""The audit trail of the box: who did what, and when. `trail.py` is the way in, `actions.py` what it says."""

from edge.store.audit.trail import ONE_VIEW, AuditRecord, AuditTrail, audit_file, open_trail, renew_keys

__all__ = ["ONE_VIEW", "AuditRecord", "AuditTrail", "audit_file", "open_trail", "renew_keys"]
