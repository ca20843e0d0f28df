/** Keys. A screen declares its own while it is shown; `?` lists what is there. */
import { signal } from '@preact/signals';
import { useEffect } from 'preact/hooks';

export interface Key {
  /** `j`, `Escape`, `g f` (one after the other) */
  readonly keys: string;
  readonly about: string;
  readonly run: (event: KeyboardEvent) => void;
}

/** Those declared last are asked first. */
const declared = signal<readonly (readonly Key[])[]>([]);
export const allKeys = declared;

/** Declares keys while the component is shown. @param keys the same value until it changes (useMemo) */
export function useKeys(keys: readonly Key[]): void {
  useEffect(() => {
    declared.value = [keys, ...declared.peek()];
    return () => {
      declared.value = declared.peek().filter((list) => list !== keys);
    };
  }, [keys]);
}

/** Milliseconds between the two keys of a sequence. */
const PAUSE_MS = 1200;

/** Listens. Call it once. */
export function listen(): void {
  let first = '';
  let at = 0;
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
    // What lies over the page has keys of its own.
    if (document.querySelector('dialog:modal') || isPressed(event)) return;
    const typing = isTyping(event.target);
    if (typing && event.key !== 'Escape') return;
    const now = Date.now();
    const both = first !== '' && now - at < PAUSE_MS ? `${first} ${event.key}` : '';
    for (const wanted of both === '' ? [event.key] : [both, event.key]) {
      for (const list of declared.peek()) {
        const key = list.find(({ keys }) => keys === wanted);
        if (!key) continue;
        first = '';
        event.preventDefault();
        key.run(event);
        return;
      }
    }
    first = event.key.length === 1 ? event.key : '';
    at = now;
  });
}

/** Enter and Space belong to buttons and links that have the focus. */
function isPressed({ key, target }: KeyboardEvent): boolean {
  if (!(target instanceof Element)) return false;
  return (
    (key === 'Enter' && target.closest('a, button, summary') !== null) ||
    (key === ' ' && target.closest('button, summary') !== null)
  );
}

/** Whether keys belong to what has the focus. Checkboxes take no letters. */
function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement && /^(checkbox|radio|button)$/.test(target.type)) return false;
  return target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName) || target.shadowRoot !== null;
}
