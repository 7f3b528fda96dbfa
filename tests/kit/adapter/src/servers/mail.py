"""A mail server for the tests: keeps each mail as a line of JSON, and refuses what it is told to."""

import asyncio
import base64
import json
import os
import ssl
import sys

from aiosmtpd.smtp import AuthResult, SMTP, LoginPassword

port, folder, mode, bytes_max = int(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])


class Handler:
    async def handle_MAIL(self, server, session, envelope, address, options):
        if address.startswith("banned"):
            return "550 5.7.1 we take nothing from you"
        envelope.mail_from = address
        return "250 OK"

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("no-"):
            return "550 5.1.1 nobody has that name"
        if address.startswith("later-"):
            return "451 4.2.0 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        # As it is, or in base64.
        if b"refuse-me" in envelope.content or b"cmVmdXNlLW1l" in envelope.content:
            return "554 5.7.1 this is spam"
        if b"later-me" in envelope.content:
            return "452 4.3.1 the disk is full"
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "text": base64.b64encode(envelope.original_content).decode(),
            "encrypted": session.ssl is not None or mode == "smtps",
            "user": session.auth_data.login.decode() if session.authenticated else None,
        }
        with open(os.path.join(folder, "mails"), "a") as mails:
            mails.write(json.dumps(mail) + "\n")
            mails.flush()
            os.fsync(mails.fileno())
        return "250 2.0.0 taken as a mail"


def know(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"outbox", b"hunter2hunter2")
    return AuthResult(success=right, handled=False, auth_data=data if right else None)


def context():
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(os.path.join(folder, "server.crt"), os.path.join(folder, "server.key"))
    return made


def protocol():
    return SMTP(
        Handler(),
        hostname="localhost",
        data_size_limit=bytes_max,
        tls_context=context() if mode == "starttls" else None,
        require_starttls=mode == "starttls",
        auth_require_tls=False,
        auth_required=mode == "login",
        authenticator=know if mode in ("login", "smtps") else None,
    )


async def main():
    loop = asyncio.get_running_loop()
    tls = context() if mode == "smtps" else None
    server = await loop.create_server(protocol, "127.0.0.1", port, ssl=tls)
    await server.serve_forever()


asyncio.run(main())
