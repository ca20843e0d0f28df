/** The page without a session, or before it is known. */
import { useState } from 'preact/hooks';
import type { Fault } from '../../src/ui/wire/messages.js';
import { Command, Empty } from '../parts/empty.js';
import { shown } from '../parts/words.js';
import { ApiError, signIn as begin } from '../state/api.js';

/** Why the page cannot be used, and how to open it again. */
export function Locked({ fault, isOver }: { fault: Fault; isOver: boolean }) {
  if (fault.signIn) return <SignIn fault={fault} />;
  return (
    <main class="locked">
      <h1 class="sr-only">egress-agent</h1>
      <Empty
        title={isOver ? 'This page is locked' : 'This page cannot be opened'}
        actions={
          <button type="button" onClick={() => location.reload()}>
            Try again
          </button>
        }
      >
        <p>
          {shown(fault.error, 300)}
          {!isOver && fault.hint !== undefined && `: ${shown(fault.hint, 300)}`}
        </p>
        {isOver && (
          <>
            <p>A link opens the page once, in one browser. When the program behind it ends, the page is locked.</p>
            <p>Run this in a terminal, and open the link that it prints:</p>
            <Command>egressctl ui</Command>
          </>
        )}
      </Empty>
    </main>
  );
}

/** A server for many: a token says who somebody is. It is sent once, and kept by no script. */
function SignIn({ fault }: { fault: Fault }) {
  const [token, setToken] = useState('');
  const [isBusy, setBusy] = useState(false);
  const [trouble, setTrouble] = useState('');
  const [command] = useState(fault.hint ?? 'kubectl create token NAME');
  const signIn = async () => {
    setBusy(true);
    setTrouble('');
    try {
      await begin(token.trim());
      location.reload();
    } catch (e) {
      setToken('');
      setTrouble(
        e instanceof ApiError
          ? [e.fault.error, e.status === 401 ? '' : e.fault.hint].filter(Boolean).join(': ')
          : String(e),
      );
      setBusy(false);
    }
  };
  return (
    <main class="locked">
      <form
        class="sign-in card"
        onSubmit={(event) => {
          event.preventDefault();
          if (token.trim() !== '' && !isBusy) void signIn();
        }}
      >
        <h1>egress-agent</h1>
        <p class="dim">Who talks to whom in this cluster, as far as your rights go.</p>
        <label for="token">Kubernetes token</label>
        <input
          id="token"
          type="password"
          autocomplete="off"
          spellcheck={false}
          autofocus
          aria-describedby="token-trouble token-about"
          aria-invalid={trouble !== ''}
          value={token}
          onInput={(event) => setToken(event.currentTarget.value)}
        />
        <p id="token-trouble" class="bad" role="alert">
          {shown(trouble, 300)}
        </p>
        <button type="submit" class="primary" disabled={token.trim() === '' || isBusy}>
          {isBusy ? 'Signing in …' : 'Sign in'}
        </button>
        <div id="token-about" class="dim">
          <p>You see the namespaces in which it may get flows. A ServiceAccount has one by:</p>
          <Command>{command}</Command>
        </div>
      </form>
    </main>
  );
}

export function Opening() {
  return (
    <main class="locked">
      <h1 class="sr-only">egress-agent</h1>
      <p class="loading" role="status">
        opening …
      </p>
    </main>
  );
}
