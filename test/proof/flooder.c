// SPDX-License-Identifier: Apache-2.0
/* New flows as fast as a pod can make them: SYNs from one port after the other, past the pod's own kernel.
 *   flooder DEVICE MAC-TO MAC-FROM ADDRESS-FROM ADDRESS-TO...
 * It ends when its input does, and prints how many it sent. Addresses are IPv4. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define AT_ONCE 64
#define TARGETS 8

struct frame {
  struct ethhdr eth;
  struct iphdr ip;
  struct tcphdr tcp;
} __attribute__((packed));

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void mac(unsigned char *to, const char *text) {
  if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", to, to + 1, to + 2, to + 3, to + 4, to + 5) != 6) die(text);
}

static uint16_t checksum(const void *data, int length) {
  const uint16_t *words = data;
  uint32_t sum = 0;
  for (int i = 0; i < length / 2; i++) sum += words[i];
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum;
}

int main(int argc, char **argv) {
  if (argc < 6 || argc > 5 + TARGETS) return 2;
  int fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1;
  if (fd < 0) die("socket");
  setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one));
  struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_ifindex = if_nametoindex(argv[1])};
  if (bind(fd, (struct sockaddr *)&to, sizeof(to))) die("bind");

  static struct frame frames[AT_ONCE];
  static struct iovec parts[AT_ONCE];
  static struct mmsghdr messages[AT_ONCE];
  const int targets = argc - 5;
  for (int i = 0; i < AT_ONCE; i++) {
    struct frame *f = &frames[i];
    mac(f->eth.h_dest, argv[2]);
    mac(f->eth.h_source, argv[3]);
    f->eth.h_proto = htons(ETH_P_IP);
    f->ip.version = 4;
    f->ip.ihl = 5;
    f->ip.tot_len = htons(sizeof(f->ip) + sizeof(f->tcp));
    f->ip.ttl = 64;
    f->ip.protocol = IPPROTO_TCP;
    inet_pton(AF_INET, argv[4], &f->ip.saddr);
    inet_pton(AF_INET, argv[5 + i % targets], &f->ip.daddr);
    f->ip.check = checksum(&f->ip, sizeof(f->ip));
    f->tcp.doff = 5;
    f->tcp.syn = 1;
    parts[i] = (struct iovec){f, sizeof(*f)};
    messages[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
  }
  puts("ready");
  fflush(stdout);
  struct pollfd input = {.fd = 0, .events = POLLIN};
  unsigned long long sent = 0;
  for (unsigned n = 0;; n += AT_ONCE) {
    for (int i = 0; i < AT_ONCE; i++) {
      frames[i].tcp.source = htons((n + i) & 0xffff);
      frames[i].tcp.dest = htons(1024 + (((n + i) >> 16) & 0x7fff));
    }
    int done = sendmmsg(fd, messages, AT_ONCE, 0);
    if (done > 0) sent += done;
    if ((n / AT_ONCE) % 64 == 0 && poll(&input, 1, 0) > 0) break;
  }
  printf("%llu\n", sent);
  return 0;
}
