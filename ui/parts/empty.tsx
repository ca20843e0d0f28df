/** Why there is nothing to see, and what can be done. */
import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import type { Fault } from '../../src/ui/wire/messages.js';
import { copy } from './file.js';
import { shown } from './words.js';

interface EmptyProps {
  readonly title: string;
  readonly children?: ComponentChildren;
  /** Buttons and links. */
  readonly actions?: ComponentChildren;
}

/** In the middle of its place: a sentence, what it means, what to do. */
export function Empty({ title, children, actions }: EmptyProps) {
  return (
    <div class="empty">
      <svg viewBox="0 0 48 32" width="72" height="48" aria-hidden="true">
        <path d="M3 16h14M31 16h14" />
        <circle cx="24" cy="16" r="6" />
      </svg>
      <h2>{title}</h2>
      {children !== undefined && <div class="empty-body">{children}</div>}
      {actions !== undefined && <div class="empty-actions">{actions}</div>}
    </div>
  );
}

/** A command with a button that copies it. */
export function Command({ children: text }: { children: string }) {
  return (
    <span class="command">
      <code>{text}</code>
      <CopyButton text={text} />
    </span>
  );
}

/** Copies a text, and says that it did. */
export function CopyButton({
  text,
  label = 'Copy',
  class: extra = 'quiet',
}: {
  text: string;
  label?: string;
  class?: string;
}) {
  const [said, say] = useState('');
  return (
    <button
      type="button"
      class={extra}
      onClick={() =>
        void copy(text).then((done) => {
          say(done ? 'Copied' : 'Not allowed');
          setTimeout(() => say(''), 2000);
        })
      }
    >
      <span aria-live="polite">{said || label}</span>
    </button>
  );
}

/** Something is asked for. @param what `the nodes`, `policies` */
export function Loading({ what }: { what: string }) {
  return (
    <p class="loading" role="status">
      asking for {what} …
    </p>
  );
}

/** What went wrong, in the server's words. */
export function Trouble({ fault, retry }: { fault: Fault; retry?: () => void }) {
  return (
    <div class="trouble" role="alert">
      <p>
        <strong>{shown(fault.error, 500)}</strong>
        {fault.field !== undefined && <span class="dim"> ({shown(fault.field)})</span>}
      </p>
      {fault.hint !== undefined && <p class="dim">{shown(fault.hint, 500)}</p>}
      {retry && (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}
