/* The few things a machine of its own has to do to its network links, without a program of the image. */
#include <arpa/inet.h>
#include <net/if.h>
#include <net/route.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"

static void put_address(struct sockaddr *into, in_addr_t address) {
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = address};
  memcpy(into, &in, sizeof in);
}

static int open_link(const char *link, struct ifreq *request) {
  memset(request, 0, sizeof *request);
  strncpy(request->ifr_name, link, IFNAMSIZ - 1);
  return socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

bool network_up(const char *link) {
  struct ifreq request;
  int fd = open_link(link, &request);
  if (fd < 0) return false;
  bool done = ioctl(fd, SIOCGIFFLAGS, &request) == 0;
  request.ifr_flags |= IFF_UP;
  done = done && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
  close(fd);
  return done;
}

bool network_address(const char *link, const char *address, const char *gateway) {
  struct ifreq request;
  struct rtentry route = {.rt_flags = RTF_UP | RTF_GATEWAY};
  int fd = open_link(link, &request);
  if (fd < 0) return false;
  put_address(&request.ifr_addr, inet_addr(address));
  bool done = ioctl(fd, SIOCSIFADDR, &request) == 0;
  put_address(&request.ifr_netmask, inet_addr("255.255.255.0"));
  done = done && ioctl(fd, SIOCSIFNETMASK, &request) == 0 && network_up(link);
  put_address(&route.rt_dst, INADDR_ANY);
  put_address(&route.rt_genmask, INADDR_ANY);
  put_address(&route.rt_gateway, inet_addr(gateway));
  done = done && ioctl(fd, SIOCADDRT, &route) == 0;
  close(fd);
  return done;
}
