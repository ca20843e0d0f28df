/**
 * fast-check, with FUZZ_SEED as its seed where one is given: a run of continuous integration tries the same cases again for the same
 * commit. Without it, every run has other cases; a property that fails prints its own seed.
 */
import fc from 'fast-check';

const { FUZZ_SEED } = process.env;
if (FUZZ_SEED !== undefined) fc.configureGlobal({ ...fc.readConfigureGlobal(), seed: Number(FUZZ_SEED) });

export { default } from 'fast-check';
