import { useEffect, useState } from "preact/hooks";
import { ApiError, errorText } from "../net/api";
import { navigate } from "../router";
import { signIn } from "../state/session";
import { CopyButton } from "../ui/CopyButton";

/** A code works once: it must not be sent twice when the page is drawn twice. */
let sent = "";

/** `/login#code=…`: the code is in the fragment, which browsers do not send and servers do not log. */
export function Login() {
  const [failure, setFailure] = useState("");
  useEffect(() => {
    const code = new URLSearchParams(location.hash.slice(1)).get("code") ?? "";
    if (code === "" || code === sent) {
      if (code === "") setFailure("This link carries no code.");
      return;
    }
    sent = code;
    history.replaceState(null, "", location.pathname);
    signIn(code).then(
      () => navigate("/"),
      (error: unknown) =>
        setFailure(
          error instanceof ApiError && error.status === 401
            ? "This one-time link was already used, or it is older than 10 minutes."
            : errorText(error),
        ),
    );
  }, []);
  if (failure) return <NotSignedIn reason={failure} />;
  return (
    <main class="gate">
      <p role="status">Signing in…</p>
    </main>
  );
}

export function NotSignedIn({ reason }: { reason?: string }) {
  return (
    <main class="gate">
      <section class="card">
        <h1>Not signed in</h1>
        {reason ? (
          <p role="alert">
            <strong>{reason}</strong>
          </p>
        ) : null}
        <p>
          Open the one-time link that <code>nanwatch serve</code> printed. For a new one, run this on the
          machine of the server:
        </p>
        <p class="snippet">
          <code>nanwatch login</code>
          <CopyButton text="nanwatch login" />
        </p>
        <p class="secondary">
          A link works once, within 10 minutes. It signs in this browser only; nothing is stored that a script
          on this page could read.
        </p>
      </section>
    </main>
  );
}
