/* Looks a name up as this C library does, connects to its addresses at port 80, and says hello.
 *   fetch NAME [first]
 * Prints a line for each address: the address, and `ok` or what went wrong. Status 2: the name has no address. */
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static const char *talk(const struct addrinfo *to) {
  const struct timeval wait = {.tv_usec = 800000};
  char answer[256];
  const char *result = "ok";
  int sock = socket(to->ai_family, SOCK_STREAM, 0);
  if (sock < 0) return strerror(errno);
  setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
  setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
  if (connect(sock, to->ai_addr, to->ai_addrlen) || send(sock, "hello", 5, 0) != 5 ||
      recv(sock, answer, sizeof(answer), 0) <= 0)
    result = errno == EINPROGRESS || errno == EAGAIN ? "timeout" : strerror(errno);
  close(sock);
  return result;
}

int main(int argc, char **argv) {
  const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
  struct addrinfo *found = NULL, *at;
  if (argc < 2) return 1;
  int error = getaddrinfo(argv[1], "80", &hints, &found);
  if (error) {
    printf("%s\n", gai_strerror(error));
    return 2;
  }
  for (at = found; at; at = at->ai_next) {
    char text[64];
    getnameinfo(at->ai_addr, at->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST);
    printf("%s %s\n", text, talk(at));
    if (argc > 2) break;
  }
  return 0;
}
