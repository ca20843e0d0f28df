/** Regular expressions of rules by their text, compiled once: as a table for the kernel, and as re2js reads them. */
import { RE2JS } from 're2js';
import { AgentError } from '../errors.js';
import { compileRegex } from './compile.js';
import type { Dfa } from './dfa.js';

/** How many are kept: those of all policies, in nearly all clusters. */
const KEPT = 4096;
const tables = new Map<string, Dfa>();
const expressions = new Map<string, RE2JS | undefined>();

/** The table of a regular expression. @throws AgentError POLICY, TOO_LARGE: see compileRegex() */
export function tableOf(regex: string): Dfa {
  return remembered(tables, regex, () => compileRegex(regex, ''));
}

/** Why a text is no regular expression that can be enforced; undefined: it is one. */
export function faultOf(regex: string): string | undefined {
  try {
    tableOf(regex);
    return undefined;
  } catch (e) {
    if (e instanceof AgentError) return e.message;
    throw e;
  }
}

/**
 * Whether a regular expression matches all of a text, case-sensitively. One that is none matches nothing. evaluate() asks
 * a library here, not the tables, so that a fault of theirs is seen where the engines are compared.
 */
export function matchesRegex(regex: string, text: string): boolean {
  return remembered(expressions, regex, () => re2(regex))?.matches(text) ?? false;
}

function re2(regex: string): RE2JS | undefined {
  try {
    return RE2JS.compile(regex);
  } catch {
    return undefined;
  }
}

function remembered<T>(cache: Map<string, T>, key: string, make: () => T): T {
  if (!cache.has(key)) {
    if (cache.size >= KEPT) cache.clear();
    cache.set(key, make());
  }
  return cache.get(key) as T;
}
