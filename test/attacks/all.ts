/** All attacks, in the order in which they are run. */
import type { Attack } from './attack.js';
import { attack as afterTheClose } from './after-the-close.js';
import { attack as agentKilled } from './agent-killed.js';
import { attack as answersToGroups } from './answers-to-groups.js';
import { attack as arp } from './arp.js';
import { attack as blamedNeighbour } from './blamed-neighbour.js';
import { attack as bridgeNextHop } from './bridge-next-hop.js';
import { attack as checksumPen } from './checksum-pen.js';
import { attack as collidingCidrs } from './colliding-cidrs.js';
import { attack as deviceOnUplink } from './device-on-uplink.js';
import { attack as encapsulation } from './encapsulation.js';
import { attack as epochWindows } from './epoch-windows.js';
import { attack as ethertypes } from './ethertypes.js';
import { attack as extensionHeaders } from './extension-headers.js';
import { attack as forgedAnswers } from './forged-answers.js';
import { attack as forgedErrors } from './forged-errors.js';
import { attack as fragmentsOverlap } from './fragments-overlap.js';
import { attack as fragmentsShapes } from './fragments-shapes.js';
import { attack as gsoFields } from './gso-fields.js';
import { attack as hostPorts } from './host-ports.js';
import { attack as icmpMessages } from './icmp-messages.js';
import { attack as inboundStaging } from './inbound-staging.js';
import { attack as ipInIp } from './ip-in-ip.js';
import { attack as linkIcmpv6 } from './link-icmpv6.js';
import { attack as linkTargets } from './link-targets.js';
import { attack as masqueraded } from './masqueraded.js';
import { attack as multicast } from './multicast.js';
import { attack as neighbourDiscovery } from './neighbour-discovery.js';
import { attack as noAddressYet } from './no-address-yet.js';
import { attack as nobodysSource } from './nobodys-source.js';
import { attack as ordinaryUser } from './ordinary-user.js';
import { attack as ownAddresses } from './own-addresses.js';
import { attack as partialErrors } from './partial-errors.js';
import { attack as pastTheQueue } from './past-the-queue.js';
import { attack as peersAddressReused } from './peers-address-reused.js';
import { attack as podsThatEnd } from './pods-that-end.js';
import { attack as portAfterReset } from './port-after-reset.js';
import { attack as portsAndProtocols } from './ports-and-protocols.js';
import { attack as queryPen } from './query-pen.js';
import { attack as relayByNeighbour } from './relay-by-neighbour.js';
import { attack as routedDiscovery } from './routed-discovery.js';
import { attack as saidAgain } from './said-again.js';
import { attack as saidAround } from './said-around.js';
import { attack as saidBehind } from './said-behind.js';
import { attack as saidCutOff } from './said-cut-off.js';
import { attack as saidCuts } from './said-cuts.js';
import { attack as saidEarly } from './said-early.js';
import { attack as saidHidden } from './said-hidden.js';
import { attack as saidOrder } from './said-order.js';
import { attack as saidRequests } from './said-requests.js';
import { attack as saidOtherProtocols } from './said-other-protocols.js';
import { attack as saidRetold } from './said-retold.js';
import { attack as saidSealed } from './said-sealed.js';
import { attack as saidSecond } from './said-second.js';
import { attack as saidShifted } from './said-shifted.js';
import { attack as saidTooLong } from './said-too-long.js';
import { attack as secondVeth } from './second-veth.js';
import { attack as seeded } from './seeded.js';
import { attack as serviceFragments } from './service-fragments.js';
import { attack as serviceOfTheNode } from './service-of-the-node.js';
import { attack as servicePortReuse } from './service-port-reuse.js';
import { attack as serviceStaleBackend } from './service-stale-backend.js';
import { attack as serviceUntranslated } from './service-untranslated.js';
import { attack as sharedPages } from './shared-pages.js';
import { attack as simultaneousOpen } from './simultaneous-open.js';
import { attack as sourceRoutes } from './source-routes.js';
import { attack as specialAddresses } from './special-addresses.js';
import { attack as spoofedSources } from './spoofed-sources.js';
import { attack as staleFlows } from './stale-flows.js';
import { attack as tcpFlags } from './tcp-flags.js';
import { attack as tunnelsByBroadcast } from './tunnels-by-broadcast.js';
import { attack as unhookedDevices } from './unhooked-devices.js';
import { attack as unlogged } from './unlogged.js';
import { attack as untoldSegments } from './untold-segments.js';
import { attack as untrustedServers } from './untrusted-servers.js';
import { attack as vlanStacks } from './vlan-stacks.js';
import { attack as wrongLengths } from './wrong-lengths.js';

export const ATTACKS: readonly Attack[] = [
  // First: as long as no Service has been asked for some of whose backends are denied.
  serviceStaleBackend,
  afterTheClose,
  agentKilled,
  answersToGroups,
  arp,
  blamedNeighbour,
  bridgeNextHop,
  checksumPen,
  collidingCidrs,
  deviceOnUplink,
  encapsulation,
  epochWindows,
  ethertypes,
  extensionHeaders,
  forgedAnswers,
  forgedErrors,
  fragmentsOverlap,
  fragmentsShapes,
  gsoFields,
  hostPorts,
  icmpMessages,
  inboundStaging,
  ipInIp,
  linkIcmpv6,
  linkTargets,
  masqueraded,
  multicast,
  neighbourDiscovery,
  noAddressYet,
  nobodysSource,
  ordinaryUser,
  ownAddresses,
  partialErrors,
  pastTheQueue,
  peersAddressReused,
  podsThatEnd,
  portAfterReset,
  portsAndProtocols,
  queryPen,
  relayByNeighbour,
  routedDiscovery,
  saidAgain,
  saidAround,
  saidBehind,
  saidCutOff,
  saidCuts,
  saidEarly,
  saidHidden,
  saidOrder,
  saidRequests,
  saidOtherProtocols,
  saidRetold,
  saidSealed,
  saidSecond,
  saidShifted,
  saidTooLong,
  secondVeth,
  seeded,
  serviceFragments,
  serviceOfTheNode,
  servicePortReuse,
  serviceUntranslated,
  sharedPages,
  simultaneousOpen,
  sourceRoutes,
  specialAddresses,
  spoofedSources,
  staleFlows,
  tcpFlags,
  tunnelsByBroadcast,
  unhookedDevices,
  unlogged,
  untoldSegments,
  untrustedServers,
  vlanStacks,
  wrongLengths,
];
