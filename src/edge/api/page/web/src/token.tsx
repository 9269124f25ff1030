// Asks for the token where the agent wants one.
//
// What enters: what the reader types. What leaves: the token, to agent.ts. Promised: it is kept for this tab only, never shown or put into an address. Absent:
// names and passwords (where the agent wants those, the browser asks itself).
import { useEffect, useRef } from "preact/hooks";
import { giveToken, needsToken } from "./agent";

export function TokenDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const field = useRef<HTMLInputElement>(null);
  const needed = needsToken.value;
  useEffect(() => {
    if (needed && !dialog.current?.open) dialog.current?.showModal();
  }, [needed]);
  if (!needed) return null;
  const give = (event: Event) => {
    event.preventDefault();
    if (field.current?.value.trim()) giveToken(field.current.value);
  };
  return (
    <dialog ref={dialog} aria-labelledby="token-heading" onCancel={(event) => event.preventDefault()}>
      <form onSubmit={give}>
        <h2 id="token-heading">This agent wants a token</h2>
        <p class="muted">It is one of those that its configuration names (bearertokenauth). It is kept until this tab is closed.</p>
        <label>
          <span>Token</span>
          <input ref={field} type="password" autocomplete="off" required />
        </label>
        <button type="submit" class="primary">Go on</button>
      </form>
    </dialog>
  );
}
