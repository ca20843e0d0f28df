/** The keys of this screen, on `?`. */
import { signal } from '@preact/signals';
import { useEffect, useMemo, useRef } from 'preact/hooks';
import { allKeys, useKeys } from './keys.js';

const isOpen = signal(false);

export function Help() {
  const dialog = useRef<HTMLDialogElement>(null);
  const keys = useMemo(
    () => [{ keys: '?', about: 'show the keys', run: () => void (isOpen.value = !isOpen.value) }],
    [],
  );
  useKeys(keys);
  useEffect(() => {
    if (isOpen.value) dialog.current?.showModal();
    else dialog.current?.close();
  }, [isOpen.value]);
  return (
    <dialog ref={dialog} aria-label="Keys" onClose={() => void (isOpen.value = false)}>
      <h2>Keys</h2>
      <dl class="keys">
        {isOpen.value &&
          allKeys.value.flat().map(({ keys: k, about }) => (
            <div key={k + about}>
              <dt>
                <kbd>{k === ' ' ? 'Space' : k}</kbd>
              </dt>
              <dd>{about}</dd>
            </div>
          ))}
      </dl>
    </dialog>
  );
}
