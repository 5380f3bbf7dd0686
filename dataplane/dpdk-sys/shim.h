/* What Spillway asks of DPDK, as plain functions and plain structures.
 *
 * Rust binds this file only. DPDK's own structures stay opaque, because their fields move between
 * releases; the shim is compiled against the installed headers and so always agrees with them.
 * Functions return 0 or a count on success and a negative errno on failure, unless they say more.
 */
#ifndef SPILLWAY_SHIM_H
#define SPILLWAY_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <rte_mbuf_core.h>

struct rte_mempool;
struct rte_flow;

/* Where the fields that the data path reads lie in an mbuf, and the flags it looks at. */
enum spw_layout {
    SPW_MBUF_BUF_ADDR = offsetof(struct rte_mbuf, buf_addr),
    SPW_MBUF_DATA_OFF = offsetof(struct rte_mbuf, data_off),
    SPW_MBUF_OL_FLAGS = offsetof(struct rte_mbuf, ol_flags),
    SPW_MBUF_PKT_LEN = offsetof(struct rte_mbuf, pkt_len),
    SPW_MBUF_DATA_LEN = offsetof(struct rte_mbuf, data_len),
    SPW_MBUF_BUF_LEN = offsetof(struct rte_mbuf, buf_len),
    SPW_MBUF_HEADROOM = RTE_PKTMBUF_HEADROOM,
    SPW_IP_CKSUM_MASK = RTE_MBUF_F_RX_IP_CKSUM_MASK,
    SPW_IP_CKSUM_GOOD = RTE_MBUF_F_RX_IP_CKSUM_GOOD,
};

enum spw_limit {
    SPW_NAME_OCTETS = 128,
    SPW_XSTAT_NAME_OCTETS = 64,
    SPW_SOCKET_ANY = -1,
    SPW_RSS_KEY_OCTETS = 52,
    SPW_RETA_PLACES = 512,
};

/* --- environment --- */

/* Starts the environment abstraction layer; negative rte_errno on failure. */
int spw_eal_init(int argc, char **argv);
/* Ends it. No DPDK memory may be touched afterwards. */
int spw_eal_cleanup(void);
/* Sends DPDK's log through `line`: severity (1 emergency .. 8 debug), octets, their number. The
 * octets of one call need not be a whole line. */
int spw_log_open(void (*line)(uint32_t level, const char *text, size_t octets));
/* Makes the calling thread one that DPDK knows, so that it has a mempool cache of its own. */
int spw_thread_register(void);
void spw_thread_unregister(void);
/* DPDK's version, as text that lives for ever. */
const char *spw_version(void);
uint64_t spw_cycles(void);
uint64_t spw_cycles_hz(void);
/* The processors that the calling thread may run on; says how many are set, at most `room`. */
int spw_allowed_cpus(uint32_t *cpus, uint32_t room);
/* Keeps DPDK's interrupt thread from its work, until it is released, or for ever. */
void spw_interrupts_hold(void);
void spw_interrupts_release(void);
void spw_interrupts_end(void);
/* Index of a kernel interface in the calling thread's network namespace, 0 where there is none. */
uint32_t spw_interface_index(const char *name);

/* --- packet buffers --- */

/* A pool of `count` buffers of `data_room` octets (headroom included); NULL and *error on failure. */
struct rte_mempool *spw_pool_create(const char *name, uint32_t count, uint32_t cache,
                                    uint16_t data_room, int socket, int *error);
uint32_t spw_pool_available(const struct rte_mempool *pool);
uint32_t spw_pool_size(const struct rte_mempool *pool);

/* An empty buffer, or NULL where the pool is exhausted. */
struct rte_mbuf *spw_mbuf_alloc(struct rte_mempool *pool);
void spw_mbuf_free(struct rte_mbuf *mbuf);
void spw_mbuf_free_bulk(struct rte_mbuf **mbufs, uint32_t count);

/* --- ports --- */

struct spw_port_info {
    char driver[SPW_NAME_OCTETS];
    char device[SPW_NAME_OCTETS];
    uint8_t mac[6];
    uint16_t max_rx_queues;
    uint16_t max_tx_queues;
    uint16_t rx_queues;
    uint16_t tx_queues;
    uint16_t min_mtu;
    uint16_t max_mtu;
    uint16_t mtu;
    uint32_t max_frame;
    int socket;
    bool promiscuous;
    bool rx_ip_checksum;
    bool rx_l4_checksum;
    bool tx_ip_checksum;
    bool tx_l4_checksum;
    uint64_t rss_types;
    /* Places of the table that leads from hashes to queues; 0 where there is none. */
    uint16_t reta_places;
};

struct spw_port_link {
    bool up;
    bool full_duplex;
    /* Megabit a second; 0 unknown, UINT32_MAX no fixed speed. */
    uint32_t speed;
};

struct spw_port_config {
    uint16_t rx_queues;
    uint16_t tx_queues;
    uint16_t rx_descriptors;
    uint16_t tx_descriptors;
    /* 0: the driver's own. */
    uint16_t mtu;
    bool rx_ip_checksum;
    /* Whether packets are spread over queues. */
    bool rss;
    /* The hash's key; as much of it as the device's is long is set. */
    uint8_t rss_key[SPW_RSS_KEY_OCTETS];
};

/* How a started port spreads packets over its queues, as its driver tells. */
struct spw_rss {
    /* The hash's key, as far as it is long: `key_octets`, 0 where nobody knows it. */
    uint8_t key[SPW_RSS_KEY_OCTETS];
    uint8_t key_octets;
    /* Whether all IPv4 is hashed; and ports too, of UDP and of TCP. */
    bool ipv4;
    bool udp_ports;
    bool tcp_ports;
    /* Places of the table that leads from hashes to queues; 0 where it can't be set. */
    uint16_t places;
};

/* Which packets a flow rule is about: what an outside host sends, or what is sent to it. */
struct spw_flow {
    /* The host's address, in host order. */
    uint32_t host;
    /* Packets from it, or else to it. */
    bool from_host;
    /* The host's UDP port; 0: its ESP. */
    uint16_t udp_port;
    /* The receive queue to which they go. */
    uint16_t queue;
};

struct spw_port_stats {
    uint64_t rx_packets;
    uint64_t tx_packets;
    uint64_t rx_octets;
    uint64_t tx_octets;
    uint64_t rx_missed;
    uint64_t rx_errors;
    uint64_t tx_errors;
    uint64_t rx_no_buffer;
};

struct spw_xstat {
    char name[SPW_XSTAT_NAME_OCTETS];
    uint64_t value;
};

/* Attaches a device; the port's number, or a negative errno. */
int spw_port_attach(const char *bus, const char *device, const char *args);
/* The port of a device that is attached already, or -ENODEV. */
int spw_port_find(const char *device);
/* Stops and closes the port and detaches its device. */
int spw_port_detach(uint16_t port, const char *bus, const char *device);
/* Configures queues and starts the port. `config` is changed to what was set. */
int spw_port_start(uint16_t port, struct spw_port_config *config, struct rte_mempool *pool);
int spw_port_stop(uint16_t port);
/* How a port spreads; `config` is what it was started with. */
int spw_port_rss(uint16_t port, const struct spw_port_config *config, struct spw_rss *rss);
/* DPDK's own Toeplitz hash of words in host order, for tests; the key as long as the words and 4 octets. */
uint32_t spw_toeplitz(uint32_t *words, uint32_t count, const uint8_t *key);
/* Sets the table and reads it back: -EIO where it is not what was set. */
int spw_port_set_reta(uint16_t port, const uint16_t *queues, uint16_t places);
/* Whether the port would take a rule; as spw_flow_create. */
int spw_flow_validate(uint16_t port, const struct spw_flow *flow, char *why, size_t room);
/* Gives the port a rule. Where it does not take it: a negative errno, and what its driver says in `why`. */
int spw_flow_create(uint16_t port, const struct spw_flow *flow, struct rte_flow **rule, char *why,
                    size_t room);
int spw_flow_destroy(uint16_t port, struct rte_flow *rule, char *why, size_t room);
int spw_port_info(uint16_t port, struct spw_port_info *info);
int spw_port_link(uint16_t port, struct spw_port_link *link);
int spw_port_stats(uint16_t port, struct spw_port_stats *stats);
/* Fills `stats` if they fit in `room`; the number that there are. */
int spw_port_xstats(uint16_t port, struct spw_xstat *stats, uint32_t room);
int spw_port_set_promiscuous(uint16_t port, bool on);
int spw_port_set_mtu(uint16_t port, uint16_t mtu);

/* Receives up to `room` packets, each in one buffer. Packets in several buffers are made one where
 * they fit and freed and added to *not_linear where they do not. */
uint16_t spw_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t room,
                      uint64_t *not_linear);
/* Gives packets to the port; the first ones, as many as it says, are the port's from then on. */
uint16_t spw_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count);
/* The same two for a port that shares memory with another process, which comes and goes as it likes:
 * while DPDK's interrupt thread is at work they receive nothing and take nothing. */
uint16_t spw_shared_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t room,
                             uint64_t *not_linear);
uint16_t spw_shared_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs,
                             uint16_t count);
/* Whether the port is one of these (memif). */
bool spw_port_shares_memory(uint16_t port);
/* The part of spw_rx_burst that keeps packets in one buffer; the number of those left. */
uint16_t spw_linearize(struct rte_mbuf **mbufs, uint16_t count, uint64_t *not_linear);

#endif
