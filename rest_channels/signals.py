"""
Signals about sockets, for a project's own code.

    from django.dispatch import receiver
    from rest_channels.signals import frame_answered

    @receiver(frame_answered)
    def note(report, **kwargs):
        if report.status >= 500:
            Incident.objects.create(error_id=report.error_id)

Each is sent with a `report`, one of the classes of `rest_channels.observing.reports`, which is also
the `sender`. Receivers run in order in a thread of their own, never on an event loop, shortly after
the event; an `async def` receiver runs on the loop. They may use the database and may wait: only
later signals wait for them. An exception is logged by Django and breaks nothing. Signals are
dropped, with a warning in the log, while 10,000 wait for slow receivers, and if the process ends.
"""

from __future__ import annotations

from typing import Final

from rest_channels.observing.receivers import ReportSignal

#: A socket was accepted: `SocketReport`.
socket_connected: Final = ReportSignal("on_connected")
#: A socket has closed: `SocketReport`, with its `code`.
socket_closed: Final = ReportSignal("on_closed")
#: A handshake was refused: `RefusalReport`, with its `reason`.
handshake_refused: Final = ReportSignal("on_refused")
#: A frame was answered, or given up: `FrameReport`.
frame_answered: Final = ReportSignal("on_frame")
#: A client has the reply that begins a subscription or a watch: `SubscriptionReport`.
subscription_begun: Final = ReportSignal("on_subscribed")
#: A subscription or a watch has ended: `SubscriptionReport`, with its `status`.
subscription_ended: Final = ReportSignal("on_unsubscribed")
#: The outboxes have the events of a pass: `PassReport`. Passes without events are reported, too.
changes_told: Final = ReportSignal("on_told")
