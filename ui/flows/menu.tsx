/** A small dialog with the chips that a line offers: to leave out, or to see nothing else. */
import { signal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { type Chip, CHIP_KEYS, chipText } from '../../src/ui/wire/chips.js';
import { shown } from '../parts/words.js';
import { addChip } from '../state/url.js';

interface Offer {
  readonly not: boolean;
  readonly chips: readonly Chip[];
}

const offer = signal<Offer | undefined>(undefined);
/** Chips that are offered: each has a digit. */
const MOST = 9;

export function offerChips(not: boolean, chips: readonly Chip[]): void {
  if (chips.length > 0) offer.value = { not, chips: chips.slice(0, MOST) };
}

export function ChipMenu() {
  const dialog = useRef<HTMLDialogElement>(null);
  const { not = false, chips = [] } = offer.value ?? {};
  useEffect(() => {
    if (offer.value) dialog.current?.showModal();
    else dialog.current?.close();
  }, [offer.value]);
  const choose = (chip: Chip | undefined) => {
    if (!chip) return;
    offer.value = undefined;
    addChip(not ? { ...chip, not: true } : chip);
  };
  return (
    <dialog
      ref={dialog}
      class="chip-menu"
      aria-labelledby="chip-menu-title"
      onClose={() => void (offer.value = undefined)}
      onKeyDown={(e) => {
        e.stopPropagation();
        const buttons = [...e.currentTarget.querySelectorAll<HTMLButtonElement>('button')];
        const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
        const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[e.key];
        if (step !== undefined) buttons[(at + step + buttons.length) % buttons.length]?.focus();
        else if (/^[1-9]$/.test(e.key)) choose(chips[Number(e.key) - 1]);
        else return;
        e.preventDefault();
      }}
      onClick={(e) => {
        if (e.target === e.currentTarget) offer.value = undefined;
      }}
    >
      <h2 id="chip-menu-title">{not ? 'Leave out' : 'Show only'}</h2>
      {chips.map((chip, n) => (
        <button type="button" key={chipText(chip)} onClick={() => choose(chip)}>
          <kbd>{n + 1}</kbd>
          <span class="chip-text">{shown(chipText(chip), 70)}</span>
          <span class="about">{CHIP_KEYS[chip.key]?.replace(/[,:].*/, '')}</span>
        </button>
      ))}
    </dialog>
  );
}
