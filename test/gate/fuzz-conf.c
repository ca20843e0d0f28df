/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin's reading of its configuration, by itself, for sanitizers. Input: for each text its length in decimal, a
 * newline, and the text. Output: for each a line, `+` and the span of prevResult (`from length`) or `-`. */
#include <stdio.h>
#include "../../daemonset/gate/conf.h"

int main(void) {
  size_t n;
  while (scanf("%zu", &n) == 1 && getchar() == '\n' && n <= CONF_MAX) {
    /* Of exactly its size: a byte read beyond is noticed. */
    char *text = malloc(n ? n : 1);
    if (text == NULL || fread(text, 1, n, stdin) != n) return 2;
    struct conf c;
    const char *wrong;
    if (!conf_parse(&c, (struct span){.p = text, .n = n}, &wrong))
      puts("-");
    else if (c.prev_result.p)
      printf("+ %zu %zu %s\n", (size_t)(c.prev_result.p - text), c.prev_result.n, c.cni_version);
    else
      puts("+");
    free(text);
  }
  return 0;
}
