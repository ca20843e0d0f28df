/** A file of libcni's cache, as containerd and CRI-O have them written. */
export interface CniResultOptions {
  namespace: string;
  name: string;
  uid?: string | undefined;
  netns: string;
  ifname?: string;
  /** With their prefixes. */
  ips?: readonly string[];
  mac?: string;
  /** Before libcni 1.2 only the result tells the namespace. */
  version?: 'new' | 'old';
}

export function cniResult({ ifname = 'eth0', version = 'new', ...o }: CniResultOptions): object {
  const own = { name: ifname, sandbox: o.netns, ...(o.mac === undefined ? {} : { mac: o.mac }) };
  return {
    kind: 'cniCacheV1',
    containerId: 'c0ffee',
    config: Buffer.from('{}').toString('base64'),
    ifName: ifname,
    networkName: 'net',
    ...(version === 'new' ? { netns: o.netns } : {}),
    cniArgs: [
      ['IgnoreUnknown', '1'],
      ['K8S_POD_NAMESPACE', o.namespace],
      ['K8S_POD_NAME', o.name],
      ['K8S_POD_INFRA_CONTAINER_ID', 'c0ffee'],
      ...(o.uid === undefined ? [] : [['K8S_POD_UID', o.uid]]),
    ],
    result: {
      cniVersion: '0.4.0',
      interfaces: [{ name: 'veth0', mac: '02:00:00:00:00:01' }, own],
      ips: (o.ips ?? []).map((address) => ({ version: address.includes(':') ? '6' : '4', interface: 1, address })),
    },
  };
}
