/**
 * Route 53 Resolver DNS Firewall, as its command line and CloudFormation write it in JSON: domain lists, rules with
 * their priorities, and the priorities of rule groups. The rule of the lowest priority that matches decides; a query
 * that none matches passes.
 */
import { basename } from 'node:path';
import { AgentError } from '../../errors.js';
import { allOf, ALWAYS, anyOf, type Condition, doubtful, NEVER, only, rulesOf } from '../base/conditions.js';
import { starred } from '../base/domains.js';
import { fieldsOf, itemsOf, type Json, objectsIn, parseJson, textOf } from '../base/json.js';
import { bound, MAX_NAMES, MAX_RULES, readList } from '../base/limits.js';
import { type Assumed, type Listing, type ListRule, type Place, type Refusal, Remarks } from '../base/model.js';
import { type Domain, Region } from '../base/region.js';
import type { Ports } from '../base/spans.js';

const DNS: Ports = { tcp: [[53, 53]], udp: [[53, 53]], other: false };

type Fields = ReadonlyMap<string, Json>;

interface Rule {
  readonly fields: Fields;
  readonly where: Place;
  readonly group: string;
  readonly priority: number;
}

class Reader {
  readonly refused = new Remarks();
  readonly notes = new Remarks();
  readonly origins = new Map<string, Place>();
  readonly #lists = new Map<string, Condition>();
  readonly #rules: Rule[] = [];
  readonly #groups = new Map<string, number>();
  readonly #assumed: Assumed;
  #names = 0;

  constructor(assumed: Assumed) {
    this.#assumed = assumed;
  }

  /** Takes a file. @returns whether something is in it */
  take(file: string, json: Json): boolean {
    const before = this.#lists.size + this.#rules.length + this.#groups.size;
    // CloudFormation names a resource by its key.
    for (const [name, resource] of fieldsOf(fieldsOf(json).get('Resources'))) {
      const properties = fieldsOf(fieldsOf(resource).get('Properties'));
      if (properties.has('Domains')) this.#list(file, properties, [name]);
    }
    const whole = fieldsOf(json);
    const own = [textOf(fieldsOf(whole.get('FirewallDomainList')).get('Id')) ?? '', basename(file, '.json')];
    for (const one of objectsIn(json, (fields) => fields.has('Domains')))
      this.#list(file, fieldsOf(one), one === json ? own : []);
    const groups = objectsIn(json, (fields) => fields.has('FirewallRules'));
    groups.forEach((group, i) => {
      if (isPage(fieldsOf(group)))
        throw new AgentError('MANIFEST', `${file}:${group.line} is one page of several (NextToken)`, {
          where: { file },
        });
      for (const rule of itemsOf(fieldsOf(group).get('FirewallRules')) ?? []) this.#rule(file, rule, `${file} ${i}`);
    });
    if (groups.length === 0)
      for (const rule of objectsIn(json, (fields) => fields.has('Action') && fields.has('Priority')))
        this.#rule(file, rule, file);
    for (const one of objectsIn(json, (fields) => fields.has('VpcId') && fields.has('Priority'))) {
      const id = textOf(fieldsOf(one).get('FirewallRuleGroupId'));
      const priority = fieldsOf(one).get('Priority')?.value;
      if (id !== undefined && typeof priority === 'number') this.#groups.set(id, priority);
    }
    return groups.length > 0 || this.#lists.size + this.#rules.length + this.#groups.size > before;
  }

  /** A list of domains, under all names by which rules may refer to it. */
  #list(file: string, fields: Fields, names: readonly string[]): void {
    const domains: Domain[] = [];
    const bad: Json[] = [];
    let every = false;
    for (const item of itemsOf(fields.get('Domains')) ?? []) {
      const text = textOf(item) ?? '';
      const domain = starred(text);
      if (['*', '*.'].includes(text)) every = true;
      else if (!domain) bad.push(item);
      else {
        domains.push(domain);
        if (!this.origins.has(domain.name)) this.origins.set(domain.name, { file, line: item.line });
      }
    }
    bound((this.#names += domains.length), MAX_NAMES, 'names', file);
    const [first] = bad;
    const partly = isPage(fields)
      ? doubtful(`the list of domains in ${file} is one page of several (NextToken)`, 'put all domains into one file')
      : NEVER;
    const condition = every
      ? ALWAYS
      : anyOf([
          only({ names: Region.of(domains) }),
          first
            ? doubtful(
                `domain ${JSON.stringify(first.value)?.slice(0, 60)} (${file}:${first.line}${bad.length > 1 ? `, and ${bad.length - 1} more` : ''}) is not a name, or *. and a name`,
              )
            : NEVER,
          partly,
        ]);
    const known = ['Id', 'FirewallDomainListId', 'Name', 'Arn'].map((key) => textOf(fields.get(key)));
    for (const name of [...names, ...known]) if (name) this.#lists.set(name, condition);
  }

  #rule(file: string, json: Json, group: string): void {
    const fields = fieldsOf(json);
    const priority = fields.get('Priority')?.value;
    const where: Place = { file, line: json.line };
    if (typeof priority !== 'number') {
      const message = `${file}:${json.line} is a rule without a Priority`;
      throw new AgentError('MANIFEST', message, { where: { file, line: json.line } });
    }
    this.#rules.push({ fields, where, priority, group: textOf(fields.get('FirewallRuleGroupId')) ?? group });
    bound(this.#rules.length, MAX_RULES, 'rules', file);
  }

  /** The rules in their order: groups by their priorities, or as they were given. */
  rules(): { rules: ListRule[]; refusal: Refusal | undefined } {
    const order = [...new Set(this.#rules.map(({ group }) => group))];
    const [first, other] = order;
    if (other !== undefined && order.some((group) => !this.#groups.has(group)))
      this.notes.say(
        this.#rules.find(({ group }) => group === other)!.where,
        'of several rule groups the files do not tell the priorities (FirewallRuleGroupAssociations): they are judged in the order of the files',
      );
    const rankOf = (group: string) => this.#groups.get(group) ?? order.indexOf(group);
    const sorted = [...this.#rules].sort(
      (a, b) =>
        rankOf(a.group) - rankOf(b.group) ||
        a.priority - b.priority ||
        // Priorities are unique. If they are not, what closes comes first.
        Number(textOf(b.fields.get('Action')) === 'BLOCK') - Number(textOf(a.fields.get('Action')) === 'BLOCK'),
    );
    if (first === undefined) return { rules: [], refusal: undefined };
    const answers: { answer: Refusal; rest: boolean; where: Place }[] = [];
    const rules = sorted.flatMap((rule) => {
      const condition = this.#condition(rule);
      const action = textOf(rule.fields.get('Action'));
      if (action === 'ALERT')
        this.notes.say(
          rule.where,
          'an ALERT lets the query pass; it is told in flows, as every query is, but not as an alert',
        );
      if (action === 'ALLOW' || action === 'ALERT') return rulesOf('allow', condition, rule.where, this.refused);
      if (action !== 'BLOCK') this.refused.say(rule.where, 'Action is not ALLOW, ALERT or BLOCK: it denies');
      answers.push({ answer: this.#answer(rule), rest: condition === ALWAYS, where: rule.where });
      return rulesOf('deny', condition, rule.where, this.refused);
    });
    const chosen = answers.find(({ rest }) => rest) ?? answers[0];
    const differs = answers.find(({ answer }) => answer !== chosen?.answer);
    if (chosen && differs)
      this.notes.say(
        differs.where,
        `is answered otherwise than ${chosen.where.file}:${chosen.where.line}: a policy has one answer for every name that it does not allow, ${chosen.answer}`,
      );
    return { rules, refusal: chosen?.answer };
  }

  #condition({ fields, where }: Rule): Condition {
    const name = textOf(fields.get('Name'));
    const reference = fields.get('FirewallDomainListId');
    const list = textOf(reference) ?? referred(reference);
    const key = name ?? list ?? '?';
    const given = this.#assumed.get(key);
    if (given !== undefined) return given ? ALWAYS : NEVER;
    const hint = `--assume '${key.slice(0, 80)}=no' or '…=yes' says that the rule never or always holds`;
    const conditions: Condition[] = [];
    const found = list === undefined ? undefined : this.#lists.get(list);
    if (found) conditions.push(found);
    else if (list !== undefined)
      conditions.push(
        doubtful(
          `the domains of list ${list.slice(0, 80)} are not in the files`,
          `${hint}; a file ${list.slice(0, 80)}.json may have them`,
        ),
      );
    else conditions.push(doubtful('asks for something else than a list of domains, which no policy does', hint));
    const type = textOf(fields.get('Qtype'));
    if (type !== undefined)
      conditions.push(
        doubtful(`asks for queries of type ${type.slice(0, 20)}: rules.dns judges every type alike`, hint),
      );
    if (textOf(fields.get('FirewallDomainRedirectionAction')) !== 'TRUST_REDIRECTION_DOMAIN')
      this.notes.say(
        { file: where.file },
        'the names to which a CNAME leads are judged, too (INSPECT_REDIRECTION_DOMAIN); here only the name that is asked for: wider where an allowed name leads to another',
      );
    return conditions.length === 1 ? conditions[0]! : allOf(conditions);
  }

  #answer({ fields, where }: Rule): Refusal {
    const response = textOf(fields.get('BlockResponse'));
    if (response === 'NODATA') return 'nodata';
    if (response === 'NXDOMAIN') return 'nxdomain';
    const what = response === 'OVERRIDE' ? 'with another name' : 'in a way that is not known';
    this.notes.say(where, `answers ${what}, which no policy does: such a name does not exist here (nxdomain)`);
    return 'nxdomain';
  }
}

/** Whether the command line gave a part of a list only. */
function isPage(fields: Fields): boolean {
  return typeof fields.get('NextToken')?.value === 'string';
}

/** What CloudFormation's `Ref` or `Fn::GetAtt` refers to. */
function referred(json: Json | undefined): string | undefined {
  const fields = fieldsOf(json);
  const ref = textOf(fields.get('Ref'));
  if (ref !== undefined) return ref;
  const attribute = fields.get('Fn::GetAtt');
  return textOf(itemsOf(attribute)?.[0]) ?? textOf(attribute)?.split('.')[0];
}

/** @throws AgentError */
export function readDnsFirewall(files: readonly string[], assumed: Assumed): Listing {
  const reader = new Reader(assumed);
  for (const file of files)
    if (!reader.take(file, parseJson(file, readList(file))))
      throw new AgentError('MANIFEST', `${file} has no Domains and no FirewallRules`, { where: { file } });
  const { rules, refusal } = reader.rules();
  const last: Place = { file: files[0]! };
  if (rules.length === 0) reader.notes.say(last, 'no rule decides: every query passes');
  reader.notes.say(
    last,
    'DNS Firewall judges queries to the VPC resolver and nothing else. Narrower: queries to any other server, and every connection, are denied unless another policy allows them (--allow-connections allows connections)',
  );
  return {
    about: 'queries',
    rules,
    otherwise: 'allow',
    last,
    universe: DNS,
    refused: reader.refused.all,
    notes: reader.notes.all,
    origins: reader.origins,
    ...(refusal === undefined ? {} : { refusal }),
  };
}
