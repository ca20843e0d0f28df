/**
 * Rule groups of AWS Network Firewall, as its API, its command line and CloudFormation write them in JSON; with the
 * firewall policy, if it is given.
 *
 * In action order every pass comes before every drop, and that before every reject. In strict order the rules are
 * judged as they stand, and the groups as the files were named. An alert decides nothing.
 */
import { AgentError } from '../../errors.js';
import { allOf, ANYTHING, anyOf, type Condition, doubtful, only, rulesOf } from '../base/conditions.js';
import { dotted } from '../base/domains.js';
import { fieldsOf, itemsOf, type Json, objectsIn, parseJson, textOf } from '../base/json.js';
import { bound, MAX_NAMES, MAX_RULES, readList } from '../base/limits.js';
import { type Assumed, type Effect, type Listing, type ListRule, type Place, Remarks } from '../base/model.js';
import { type Domain, Region } from '../base/region.js';
import { EVERY_PORT, TCP_PORTS } from '../base/spans.js';
import type { Speech } from '../base/speech.js';
import { headerCondition, type Variables } from './header.js';
import { readRule, suricataLines } from './suricata.js';

/** Passes first, then drops, then rejects. */
const ACTIONS: ReadonlyMap<string, number> = new Map([
  ['pass', 0],
  ['drop', 1],
  ['reject', 2],
]);

interface Ranked {
  readonly rank: number;
  readonly rule: ListRule;
}

type Fields = ReadonlyMap<string, Json>;

class Reader {
  readonly refused = new Remarks();
  readonly notes = new Remarks();
  readonly origins = new Map<string, Place>();
  readonly rules: Ranked[] = [];
  /** A list of allowed names is there: the rest is denied. */
  closes = false;
  readonly #assumed: Assumed;
  #names = 0;

  constructor(assumed: Assumed) {
    this.#assumed = assumed;
  }

  group(file: string, json: Json): void {
    const group = fieldsOf(json);
    const source = fieldsOf(group.get('RulesSource'));
    const variables = variablesOf(group);
    const where: Place = { file, line: json.line };
    const known = ['RulesSourceList', 'StatefulRules', 'RulesString'];
    for (const [key, value] of source) {
      if (known.includes(key) || value.value === null) continue;
      this.refused.say(
        { file, line: value.line, field: key },
        'is not known or is judged without a state: everything is denied',
      );
      this.#push('drop', [{ ...ANYTHING, action: 'deny', where }]);
    }
    if (!known.some((key) => source.has(key))) this.refused.say(where, 'RulesSource has no rules');
    if (source.has('RulesSourceList')) this.#list(file, source.get('RulesSourceList')!);
    for (const rule of itemsOf(source.get('StatefulRules')) ?? []) this.#stateful(file, rule, variables);
    const text = textOf(source.get('RulesString'));
    if (text !== undefined) this.#suricata(file, source.get('RulesString')!.line, text, variables);
  }

  #push(action: string, rules: readonly ListRule[]): void {
    for (const rule of rules) this.rules.push({ rank: ACTIONS.get(action) ?? 1, rule });
    bound(this.rules.length, MAX_RULES, 'rules');
  }

  #domain(domain: Domain, where: Place): void {
    bound(++this.#names, MAX_NAMES, 'names', where.file);
    if (!this.origins.has(domain.name)) this.origins.set(domain.name, where);
  }

  /** A list of domains. */
  #list(file: string, json: Json): void {
    const list = fieldsOf(json);
    const where: Place = { file, line: json.line, field: 'RulesSourceList' };
    const types = (itemsOf(list.get('TargetTypes')) ?? []).map(textOf);
    const domains: Domain[] = [];
    const bad: Json[] = [];
    const targets = itemsOf(list.get('Targets')) ?? [];
    for (const target of targets) {
      const domain = dotted(textOf(target) ?? '');
      if (!domain) bad.push(target);
      else {
        domains.push(domain);
        this.#domain(domain, { file, line: target.line });
      }
    }
    const speech: Speech = { tls: types.includes('TLS_SNI'), http: types.includes('HTTP_HOST'), other: false };
    const good = only({ names: Region.of(domains), speech, ports: TCP_PORTS });
    const [first] = bad;
    const condition: Condition = first
      ? anyOf([
          good,
          doubtful(
            `${JSON.stringify(first.value)?.slice(0, 60)} (line ${first.line}${bad.length > 1 ? `, and ${bad.length - 1} more` : ''}) is not a name`,
          ),
        ])
      : good;
    const generated = textOf(list.get('GeneratedRulesType'));
    const protocols = types.includes('HTTP_HOST') ? (types.includes('TLS_SNI') ? 'TLS and HTTP' : 'HTTP') : 'TLS';
    const known = types.length > 0 && types.every((type) => type === 'TLS_SNI' || type === 'HTTP_HOST');
    const push = (action: string, effect: Effect, what: Condition) =>
      this.#push(action, rulesOf(effect, what, where, this.refused));
    switch (known ? generated : '') {
      case 'ALERTLIST':
        this.notes.say(where, 'an ALERTLIST decides nothing: left out');
        break;
      case 'DENYLIST':
        push('drop', 'deny', condition);
        break;
      case 'REJECTLIST':
        push('reject', 'deny', condition);
        break;
      case 'ALLOWLIST':
        push('pass', 'allow', condition);
        push('drop', 'deny', only({ speech, ports: TCP_PORTS }));
        this.closes = true;
        this.notes.say(
          where,
          `the list drops the rest of ${protocols} only; no policy allows all that is neither, so every other connection is denied, too, unless a rule names it: narrower`,
        );
        break;
      default: {
        const what = known ? 'GeneratedRulesType is not known' : 'TargetTypes must be TLS_SNI, HTTP_HOST, or both';
        this.refused.say(where, `${what}: everything is denied`);
        this.#push('drop', [{ ...ANYTHING, action: 'deny', where }]);
      }
    }
  }

  /** A rule in fields. */
  #stateful(file: string, json: Json, variables: Variables): void {
    const rule = fieldsOf(json);
    const where: Place = { file, line: json.line };
    const action = textOf(rule.get('Action'))?.toLowerCase();
    if (action === 'alert') {
      this.notes.say(where, 'an alert decides nothing: left out');
      return;
    }
    const header = fieldsOf(rule.get('Header'));
    const text = (key: string) => textOf(header.get(key)) ?? '?';
    const direction = textOf(header.get('Direction'));
    const options = (itemsOf(rule.get('RuleOptions')) ?? []).flatMap((one) => {
      const keyword = textOf(fieldsOf(one).get('Keyword')) ?? '?';
      return /^(sid|msg|rev|gid|priority|classtype|metadata|reference)(:|$)/.test(keyword) ? [] : [keyword];
    });
    const condition = allOf([
      headerCondition(
        {
          protocol: text('Protocol'),
          source: text('Source'),
          sourcePort: text('SourcePort'),
          destination: text('Destination'),
          destinationPort: text('DestinationPort'),
        },
        variables,
        this.#assumed,
        where,
        this.notes,
      ),
      ...options.map((keyword) => doubtful(`asks for ${keyword.slice(0, 40)}, which no policy does`)),
      ...(direction === 'FORWARD' || direction === 'ANY' ? [] : [doubtful('Direction must be FORWARD or ANY')]),
    ]);
    this.#decides(action ?? '?', condition, where);
  }

  #decides(action: string, condition: Condition, where: Place): void {
    const effect: Effect = action === 'pass' ? 'allow' : 'deny';
    if (!ACTIONS.has(action)) this.refused.say(where, `action ${action.slice(0, 20)} is not known: it denies`);
    this.#push(action, rulesOf(effect, condition, where, this.refused));
  }

  #suricata(file: string, first: number, text: string, variables: Variables): void {
    for (const { text: line, line: number } of suricataLines(text)) {
      const where: Place = { file, line: first, field: `RulesString line ${number}` };
      const rule = readRule(line);
      if (!rule) {
        const effect = /^alert\s/.test(line)
          ? 'it decides nothing'
          : /^pass\s/.test(line)
            ? 'it allows nothing'
            : 'it denies everything';
        this.refused.say(where, `${JSON.stringify(line.slice(0, 60))} cannot be read: ${effect}`);
        if (effect === 'it denies everything') this.#decides('drop', only({}), where);
        continue;
      }
      if (rule.action === 'alert') {
        this.notes.say({ file, line: first, field: 'RulesString' }, 'alerts decide nothing: left out');
        continue;
      }
      if (rule.domain) this.#domain(rule.domain, where);
      const header = headerCondition(rule.header, variables, this.#assumed, where, this.notes);
      this.#decides(rule.action, allOf([header, rule.options]), where);
    }
  }
}

function variablesOf(group: Fields): Variables {
  const sets = fieldsOf(group.get('RuleVariables'));
  const read = (key: string) =>
    new Map(
      [...fieldsOf(sets.get(key))].map(([name, json]) => [
        name,
        (itemsOf(fieldsOf(json).get('Definition')) ?? []).map((item) => textOf(item) ?? '?'),
      ]),
    );
  return { addresses: read('IPSets'), ports: read('PortSets') };
}

/** @throws AgentError */
export function readFirewall(files: readonly string[], assumed: Assumed): Listing {
  const reader = new Reader(assumed);
  const orders = new Map<string, Place>();
  let defaults: { drops: boolean; where: Place } | undefined;
  for (const file of files) {
    const json = parseJson(file, readList(file));
    const groups = objectsIn(json, (fields) => fields.has('RulesSource'));
    const policies = objectsIn(
      json,
      (fields) => fields.has('StatefulDefaultActions') || fields.has('StatefulEngineOptions'),
    );
    if (groups.length === 0 && policies.length === 0)
      throw new AgentError('MANIFEST', `${file} has no RulesSource: it is not a rule group`, { where: { file } });
    for (const group of groups) {
      reader.group(file, group);
      const options = fieldsOf(fieldsOf(group).get('StatefulRuleOptions'));
      orders.set(textOf(options.get('RuleOrder')) ?? 'DEFAULT_ACTION_ORDER', { file, line: group.line });
    }
    for (const policy of policies) {
      const actions = (itemsOf(fieldsOf(policy).get('StatefulDefaultActions')) ?? []).map(textOf);
      defaults = { drops: actions.some((one) => one?.startsWith('aws:drop')), where: { file, line: policy.line } };
    }
  }
  const [order = 'DEFAULT_ACTION_ORDER', other] = [...orders.keys()];
  if (other !== undefined)
    throw new AgentError('MANIFEST', `rule groups have the orders ${order} and ${other}: a firewall takes one`, {
      where: { file: orders.get(other)!.file },
    });
  const strict = order === 'STRICT_ORDER';
  const ranked = strict ? reader.rules : [...reader.rules].sort((a, b) => a.rank - b.rank);
  const last: Place = defaults?.where ?? { file: files[0]! };
  if (strict && !defaults)
    reader.notes.say(
      last,
      'the firewall policy, which says what happens to the rest, is not given: the rest is denied',
    );
  reader.notes.say(
    last,
    'AWS Network Firewall judges the name in a TLS handshake (SNI) or in a Host header. The policies ask for the same, and for an address that the pod learned for the name from DNS. Narrower: a pod must look up the name itself, and HTTP/2 without TLS is not allowed',
  );
  return {
    about: 'connections',
    rules: ranked.map(({ rule }) => rule),
    otherwise: reader.closes || (defaults?.drops ?? strict) ? 'deny' : 'allow',
    last,
    universe: EVERY_PORT,
    refused: reader.refused.all,
    notes: reader.notes.all,
    origins: reader.origins,
  };
}
