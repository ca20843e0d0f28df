/**
 * What lies over the page. All of it closes on Escape, the topmost first, and gives the focus back to where it was.
 * Render it only while it is open. Parts beside this file: tabs.tsx, table.tsx, spark.tsx, empty.tsx, verdict.tsx,
 * words.ts, file.ts.
 */
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useLayoutEffect, useRef, useState } from 'preact/hooks';

/** What is open now, the topmost last. */
const open: { close: () => void }[] = [];
let isListening = false;

/** Escape closes the topmost. Listens below the keys of screens, so that they do not see this one. */
function listen(): void {
  if (isListening) return;
  isListening = true;
  document.body.addEventListener('keydown', (event) => {
    const top = open.at(-1);
    if (event.key !== 'Escape' || event.defaultPrevented || event.isComposing || !top) return;
    event.preventDefault();
    event.stopPropagation();
    top.close();
  });
}

/** Closes on Escape while the component is shown. */
export function useEscape(close: () => void): void {
  const latest = useRef(close);
  latest.current = close;
  useEffect(() => {
    listen();
    const own = { close: () => latest.current() };
    open.push(own);
    return () => void open.splice(open.indexOf(own), 1);
  }, []);
}

interface OverlayProps {
  /** A sentence or some words: the heading. */
  readonly title: ComponentChildren;
  readonly onClose: () => void;
  readonly children: ComponentChildren;
  /** Beside the heading. */
  readonly actions?: ComponentChildren;
  readonly class?: string;
}

/**
 * A panel at the right side of `main`; the page beside it stays usable.
 * @param keepFocus the focus stays where it is: for panels that follow a selection
 */
export function Drawer({
  title,
  onClose,
  children,
  actions,
  keepFocus = false,
  class: extra = '',
}: OverlayProps & { keepFocus?: boolean }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEscape(onClose);
  useLayoutEffect(() => {
    const own = dialog.current;
    if (!own) return;
    // show() puts the focus into the dialog, and close() gives it back.
    if (keepFocus) own.open = true;
    else own.show();
    return () => own.close();
  }, []);
  return (
    <dialog ref={dialog} class={`drawer ${extra}`} aria-labelledby={id}>
      <Head id={id} title={title} onClose={onClose} actions={actions} />
      <div class="overlay-body">{children}</div>
    </dialog>
  );
}

/** A question or a page over the page, which waits. A click beside it closes it, too. */
export function Dialog({ title, onClose, children, actions, class: extra = '' }: OverlayProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEscape(onClose);
  useLayoutEffect(() => {
    const own = dialog.current;
    own?.showModal();
    return () => own?.close();
  }, []);
  useEffect(() => {
    const own = dialog.current;
    if (!own) return;
    const beside = (event: MouseEvent) => {
      if (event.target === own) onClose();
    };
    // The browser's own way to close it: told to the owner, who takes it away.
    const cancel = (event: Event) => {
      event.preventDefault();
      onClose();
    };
    own.addEventListener('mousedown', beside);
    own.addEventListener('cancel', cancel);
    return () => {
      own.removeEventListener('mousedown', beside);
      own.removeEventListener('cancel', cancel);
    };
  }, [onClose]);
  return (
    <dialog ref={dialog} class={`dialog ${extra}`} aria-labelledby={id}>
      <Head id={id} title={title} onClose={onClose} actions={actions} />
      <div class="overlay-body">{children}</div>
    </dialog>
  );
}

function Head({ id, title, onClose, actions }: { id: string } & Pick<OverlayProps, 'title' | 'onClose' | 'actions'>) {
  return (
    <div class="overlay-head">
      <h2 id={id}>{title}</h2>
      {actions}
      <button type="button" class="icon-button" onClick={onClose} aria-label="close" title="close (Esc)">
        <svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
          <path d="M3 3l10 10M13 3L3 13" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" />
        </svg>
      </button>
    </div>
  );
}

interface PopupProps {
  /** What the button shows. */
  readonly button: ComponentChildren;
  /** For those who do not see what it shows. */
  readonly label: string;
  readonly class?: string;
  readonly title?: string;
  /** The panel is at the right edge of its button, not at the left one. */
  readonly right?: boolean;
  /** @param close closes it, and gives the focus back */
  readonly children: (close: () => void) => ComponentChildren;
}

/** A button with a panel below it. A click elsewhere, Escape, and leaving it with Tab close it. */
export function Popup({ button, label, class: extra = '', title, right = false, children }: PopupProps) {
  const [isOpen, setOpen] = useState(false);
  const around = useRef<HTMLSpanElement>(null);
  const opener = useRef<HTMLButtonElement>(null);
  const id = useId();
  const close = () => {
    setOpen(false);
    opener.current?.focus();
  };
  useEffect(() => {
    if (!isOpen) return;
    const elsewhere = (event: Event) => {
      if (event.target instanceof Node && !around.current?.contains(event.target)) setOpen(false);
    };
    document.addEventListener('pointerdown', elsewhere);
    document.addEventListener('focusin', elsewhere);
    return () => {
      document.removeEventListener('pointerdown', elsewhere);
      document.removeEventListener('focusin', elsewhere);
    };
  }, [isOpen]);
  return (
    <span class="popup" ref={around}>
      <button
        type="button"
        class={extra}
        ref={opener}
        aria-label={label}
        title={title}
        aria-haspopup="dialog"
        aria-expanded={isOpen}
        aria-controls={isOpen ? id : undefined}
        onClick={() => setOpen(!isOpen)}
      >
        {button}
      </button>
      {isOpen && (
        <Panel id={id} label={label} right={right} close={close}>
          {children(close)}
        </Panel>
      )}
    </span>
  );
}

interface PanelProps {
  readonly id: string;
  readonly label: string;
  readonly right: boolean;
  readonly close: () => void;
  readonly children: ComponentChildren;
}

function Panel({ id, label, right, close, children }: PanelProps) {
  const panel = useRef<HTMLDialogElement>(null);
  useEscape(close);
  useLayoutEffect(() => panel.current?.show(), []);
  return (
    <dialog ref={panel} id={id} class={`panel${right ? ' right' : ''}`} aria-label={label}>
      {children}
    </dialog>
  );
}
