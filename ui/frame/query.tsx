/** The query box: filters are typed into it, and completed. */
import { useMemo, useRef, useState } from 'preact/hooks';
import { parseChip } from '../../src/ui/wire/chips.js';
import { shown } from '../parts/words.js';
import { offersFor } from './offers.js';
import { addChip, chips, dropChip } from '../state/url.js';
import { useKeys } from './keys.js';

const HINT = 'A filter is a name and a value, such as to-port:443 or !namespace:kube-system.';

export function Query() {
  const [text, write] = useState('');
  const [isOpen, open] = useState(false);
  const [active, mark] = useState(-1);
  const [fault, complain] = useState('');
  const box = useRef<HTMLInputElement>(null);
  const keys = useMemo(() => [{ keys: '/', about: 'write a filter', run: () => box.current?.focus() }], []);
  useKeys(keys);
  const offers = isOpen ? offersFor(text) : [];
  const isListed = offers.length > 0;

  const change = (next: string) => {
    write(next);
    mark(-1);
    complain('');
    open(true);
  };
  /** A whole filter becomes a chip; a name waits for its value. */
  const take = (next: string) => {
    const chip = parseChip(next);
    if (chip) {
      addChip(chip);
      change('');
      open(false);
    } else if (next.endsWith(':') && next !== text) change(next);
    else if (next.trim() !== '') {
      complain(HINT);
      open(false);
    }
  };
  const onKeyDown = (event: KeyboardEvent) => {
    if (event.isComposing) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const last = chips.value.at(-1);
    if (step !== undefined) {
      open(true);
      if (isListed) mark((((active + step) % offers.length) + offers.length) % offers.length);
    } else if (event.key === 'Enter') take(offers[active]?.text ?? text);
    else if (
      event.key === 'Tab' &&
      isListed &&
      text !== '' &&
      !event.shiftKey &&
      offers[Math.max(0, active)]?.text !== text
    )
      change(offers[Math.max(0, active)]?.text ?? text);
    else if (event.key === 'Backspace' && text === '' && last) dropChip(last);
    else if (event.key === 'Escape') {
      if (isListed) open(false);
      else if (text !== '') {
        change('');
        open(false);
      } else box.current?.blur();
    } else return;
    if (event.key === 'Backspace') return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div class="query">
      <svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
        <path d="M2 3h12M4.5 8h7M7 13h2" fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round" />
      </svg>
      <input
        ref={box}
        id="query"
        type="text"
        role="combobox"
        placeholder="Filter by namespace, workload, port, name …"
        aria-label="add a filter"
        aria-expanded={isListed}
        aria-controls="query-offers"
        aria-autocomplete="list"
        aria-activedescendant={active >= 0 ? `query-offer-${active}` : undefined}
        aria-invalid={fault !== ''}
        aria-describedby={fault === '' ? undefined : 'query-fault'}
        autocomplete="off"
        spellcheck={false}
        maxLength={600}
        value={text}
        onInput={(event) => change(event.currentTarget.value)}
        onFocus={() => open(true)}
        onBlur={() => open(false)}
        onKeyDown={onKeyDown}
      />
      <kbd>/</kbd>
      <div class="offers" id="query-offers" role="listbox" aria-label="filters" hidden={!isListed}>
        {offers.map((offer, n) => (
          // biome-ignore lint/a11y/useKeyWithClickEvents: keys go to the box, which says what is marked
          <div
            key={offer.text}
            id={`query-offer-${n}`}
            role="option"
            tabIndex={-1}
            aria-selected={n === active}
            // The box keeps the focus.
            onMouseDown={(event) => event.preventDefault()}
            onClick={() => take(offer.text)}
          >
            <span class="mono">{shown(offer.text, 60)}</span>
            <span class="dim">{offer.about}</span>
          </div>
        ))}
      </div>
      {fault !== '' && (
        <p id="query-fault" class="query-fault" role="alert">
          {fault}
        </p>
      )}
    </div>
  );
}
