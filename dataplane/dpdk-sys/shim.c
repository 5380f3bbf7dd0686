#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_dev.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_flow.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>
#include <rte_thash.h>
#include <rte_version.h>

/* --- environment --- */

int spw_eal_init(int argc, char **argv)
{
    rte_errno = 0;
    if (rte_eal_init(argc, argv) >= 0)
        return 0;
    return rte_errno != 0 ? -rte_errno : -EINVAL;
}

int spw_eal_cleanup(void)
{
    spw_interrupts_end();
    return rte_eal_cleanup();
}

static void (*log_line)(uint32_t level, const char *text, size_t octets);

static ssize_t log_write(void *cookie, const char *text, size_t octets)
{
    int level = rte_log_cur_msg_loglevel();

    (void)cookie;
    log_line(level > 0 ? (uint32_t)level : RTE_LOG_NOTICE, text, octets);
    return (ssize_t)octets;
}

int spw_log_open(void (*line)(uint32_t level, const char *text, size_t octets))
{
    static const cookie_io_functions_t functions = { .write = log_write };
    FILE *stream;

    log_line = line;
    stream = fopencookie(NULL, "w", functions);
    if (stream == NULL)
        return -errno;
    return rte_openlog_stream(stream);
}

int spw_thread_register(void)
{
    return rte_thread_register() == 0 ? 0 : -rte_errno;
}

void spw_thread_unregister(void)
{
    rte_thread_unregister();
}

const char *spw_version(void)
{
    return rte_version();
}

uint64_t spw_cycles(void)
{
    return rte_rdtsc();
}

uint64_t spw_cycles_hz(void)
{
    return rte_get_tsc_hz();
}

int spw_allowed_cpus(uint32_t *cpus, uint32_t room)
{
    cpu_set_t set;
    uint32_t count = 0;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return -errno;
    for (uint32_t cpu = 0; cpu < CPU_SETSIZE && count < room; cpu++)
        if (CPU_ISSET(cpu, &set))
            cpus[count++] = cpu;
    return (int)count;
}

uint32_t spw_interface_index(const char *name)
{
    return if_nametoindex(name);
}

/* --- packet buffers --- */

struct rte_mempool *spw_pool_create(const char *name, uint32_t count, uint32_t cache,
                                    uint16_t data_room, int socket, int *error)
{
    struct rte_mempool *pool =
        rte_pktmbuf_pool_create(name, count, cache, 0, data_room, socket);

    *error = pool == NULL ? -rte_errno : 0;
    return pool;
}

uint32_t spw_pool_available(const struct rte_mempool *pool)
{
    return rte_mempool_avail_count(pool);
}

uint32_t spw_pool_size(const struct rte_mempool *pool)
{
    return pool->size;
}

struct rte_mbuf *spw_mbuf_alloc(struct rte_mempool *pool)
{
    return rte_pktmbuf_alloc(pool);
}

void spw_mbuf_free(struct rte_mbuf *mbuf)
{
    rte_pktmbuf_free(mbuf);
}

void spw_mbuf_free_bulk(struct rte_mbuf **mbufs, uint32_t count)
{
    rte_pktmbuf_free_bulk(mbufs, count);
}

/* --- ports --- */

int spw_port_find(const char *device)
{
    struct rte_eth_dev_info info;
    uint16_t port;

    RTE_ETH_FOREACH_DEV(port) {
        if (rte_eth_dev_info_get(port, &info) != 0 || info.device == NULL)
            continue;
        if (strcmp(rte_dev_name(info.device), device) == 0)
            return port;
    }
    return -ENODEV;
}

int spw_port_attach(const char *bus, const char *device, const char *args)
{
    int port, error;

    rte_errno = 0;
    error = rte_eal_hotplug_add(bus, device, args);
    if (error != 0)
        return error < -1 ? error : rte_errno != 0 ? -rte_errno : -ENODEV;
    port = spw_port_find(device);
    if (port < 0)
        (void)rte_eal_hotplug_remove(bus, device);
    return port;
}

int spw_port_stop(uint16_t port)
{
    return rte_eth_dev_stop(port);
}

int spw_port_detach(uint16_t port, const char *bus, const char *device)
{
    bool shared = spw_port_shares_memory(port);
    int closed, removed;

    if (shared)
        spw_interrupts_hold();
    (void)rte_eth_dev_stop(port);
    closed = rte_eth_dev_close(port);
    removed = rte_eal_hotplug_remove(bus, device);
    if (shared)
        spw_interrupts_release();
    return removed != 0 ? removed : closed;
}

/* Hashing over addresses, and over ports where the packet has them whole. */
#define SPW_RSS_TYPES \
    (RTE_ETH_RSS_IPV4 | RTE_ETH_RSS_FRAG_IPV4 | RTE_ETH_RSS_NONFRAG_IPV4_TCP | \
     RTE_ETH_RSS_NONFRAG_IPV4_UDP | RTE_ETH_RSS_NONFRAG_IPV4_OTHER)

/* Octets of a key where the driver does not say how long it is. */
#define SPW_RSS_KEY_USUAL 40

static bool key_is_settable(const struct rte_eth_dev_info *info)
{
    return info->hash_key_size >= SPW_RSS_KEY_USUAL && info->hash_key_size <= SPW_RSS_KEY_OCTETS;
}

static int configure(uint16_t port, struct spw_port_config *config,
                     const struct rte_eth_dev_info *info, bool with_key)
{
    struct rte_eth_conf conf;

    memset(&conf, 0, sizeof(conf));
    conf.rxmode.mtu = config->mtu;
    config->rss = config->rx_queues > 1 && (info->flow_type_rss_offloads & SPW_RSS_TYPES) != 0;
    if (config->rss) {
        conf.rxmode.mq_mode = RTE_ETH_MQ_RX_RSS;
        conf.rx_adv_conf.rss_conf.rss_hf = info->flow_type_rss_offloads & SPW_RSS_TYPES;
        if (with_key && key_is_settable(info)) {
            conf.rx_adv_conf.rss_conf.rss_key = config->rss_key;
            conf.rx_adv_conf.rss_conf.rss_key_len = info->hash_key_size;
        }
    }
    config->rx_ip_checksum = (info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM) != 0;
    if (config->rx_ip_checksum)
        conf.rxmode.offloads |= RTE_ETH_RX_OFFLOAD_IPV4_CKSUM;
    return rte_eth_dev_configure(port, config->rx_queues, config->tx_queues, &conf);
}

static int configure_with_mtu(uint16_t port, struct spw_port_config *config,
                              const struct rte_eth_dev_info *info, bool with_key)
{
    uint16_t mtu = config->mtu;
    int error = configure(port, config, info, with_key);

    if (error != -EINVAL || mtu == 0)
        return error;
    /* Software drivers name a frame size that leaves out what they in fact carry: let the
     * driver say its own. The caller sees in the config what came of it. */
    config->mtu = 0;
    error = configure(port, config, info, with_key);
    if (error != 0)
        config->mtu = mtu;
    return error;
}

int spw_port_start(uint16_t port, struct spw_port_config *config, struct rte_mempool *pool)
{
    struct rte_eth_dev_info info;
    int error = rte_eth_dev_info_get(port, &info);
    uint16_t mtu;
    int socket;

    if (error != 0)
        return error;
    error = configure_with_mtu(port, config, &info, true);
    if (error != 0 && config->rss) {
        /* A driver that refuses the key, or to hash less than it could, still receives. */
        error = configure_with_mtu(port, config, &info, false);
    }
    if (error == 0)
        error = rte_eth_dev_adjust_nb_rx_tx_desc(port, &config->rx_descriptors,
                                                 &config->tx_descriptors);
    if (error != 0)
        return error;
    socket = rte_eth_dev_socket_id(port);
    if (socket < 0)
        socket = SOCKET_ID_ANY;
    for (uint16_t queue = 0; queue < config->rx_queues && error == 0; queue++)
        error = rte_eth_rx_queue_setup(port, queue, config->rx_descriptors, (unsigned int)socket,
                                       NULL, pool);
    for (uint16_t queue = 0; queue < config->tx_queues && error == 0; queue++)
        error = rte_eth_tx_queue_setup(port, queue, config->tx_descriptors, (unsigned int)socket,
                                       NULL);
    if (error == 0)
        error = rte_eth_dev_start(port);
    if (error == 0 && rte_eth_dev_get_mtu(port, &mtu) == 0)
        config->mtu = mtu;
    return error;
}

int spw_port_rss(uint16_t port, const struct spw_port_config *config, struct spw_rss *out)
{
    struct rte_eth_dev_info info;
    struct rte_eth_rss_conf conf;
    uint8_t key[SPW_RSS_KEY_OCTETS];
    int error = rte_eth_dev_info_get(port, &info);

    memset(out, 0, sizeof(*out));
    if (error != 0 || !config->rss)
        return error;
    memset(&conf, 0, sizeof(conf));
    memset(key, 0, sizeof(key));
    conf.rss_key = key;
    conf.rss_key_len = sizeof(key);
    if (rte_eth_dev_rss_hash_conf_get(port, &conf) != 0)
        return 0;
    memcpy(out->key, key, sizeof(key));
    out->key_octets = (uint8_t)(key_is_settable(&info) ? info.hash_key_size : SPW_RSS_KEY_USUAL);
    out->ipv4 = (conf.rss_hf & RTE_ETH_RSS_IPV4) != 0;
    out->udp_ports = (conf.rss_hf & RTE_ETH_RSS_NONFRAG_IPV4_UDP) != 0;
    out->tcp_ports = (conf.rss_hf & RTE_ETH_RSS_NONFRAG_IPV4_TCP) != 0;
    if (info.reta_size <= SPW_RETA_PLACES)
        out->places = info.reta_size;
    return 0;
}

uint32_t spw_toeplitz(uint32_t *words, uint32_t count, const uint8_t *key)
{
    return rte_softrss(words, count, key);
}

int spw_port_set_reta(uint16_t port, const uint16_t *queues, uint16_t places)
{
    struct rte_eth_rss_reta_entry64 set[SPW_RETA_PLACES / RTE_ETH_RETA_GROUP_SIZE];
    struct rte_eth_rss_reta_entry64 found[SPW_RETA_PLACES / RTE_ETH_RETA_GROUP_SIZE];
    int error;

    if (places > SPW_RETA_PLACES)
        return -EINVAL;
    memset(set, 0, sizeof(set));
    for (uint16_t at = 0; at < places; at++) {
        set[at / RTE_ETH_RETA_GROUP_SIZE].mask |= UINT64_C(1) << (at % RTE_ETH_RETA_GROUP_SIZE);
        set[at / RTE_ETH_RETA_GROUP_SIZE].reta[at % RTE_ETH_RETA_GROUP_SIZE] = queues[at];
    }
    error = rte_eth_dev_rss_reta_update(port, set, places);
    if (error != 0)
        return error;
    memcpy(found, set, sizeof(found));
    for (size_t group = 0; group < sizeof(found) / sizeof(found[0]); group++)
        memset(found[group].reta, 0xff, sizeof(found[group].reta));
    error = rte_eth_dev_rss_reta_query(port, found, places);
    if (error != 0)
        return error;
    for (uint16_t at = 0; at < places; at++)
        if (found[at / RTE_ETH_RETA_GROUP_SIZE].reta[at % RTE_ETH_RETA_GROUP_SIZE] != queues[at])
            return -EIO;
    return 0;
}

/* A rule in rte_flow's words. The parts point at each other: it must not be moved. */
struct flow_words {
    struct rte_flow_item_ipv4 ipv4, ipv4_mask;
    struct rte_flow_item_udp udp, udp_mask;
    struct rte_flow_action_queue queue;
    struct rte_flow_item pattern[4];
    struct rte_flow_action actions[2];
};

static const struct rte_flow_attr flow_ingress = { .ingress = 1 };

static void flow_say(struct flow_words *words, const struct spw_flow *flow)
{
    rte_be32_t host = rte_cpu_to_be_32(flow->host);
    rte_be16_t udp_port = rte_cpu_to_be_16(flow->udp_port);

    memset(words, 0, sizeof(*words));
    if (flow->from_host) {
        words->ipv4.hdr.src_addr = host;
        words->ipv4_mask.hdr.src_addr = UINT32_MAX;
        words->udp.hdr.src_port = udp_port;
        words->udp_mask.hdr.src_port = UINT16_MAX;
    } else {
        words->ipv4.hdr.dst_addr = host;
        words->ipv4_mask.hdr.dst_addr = UINT32_MAX;
        words->udp.hdr.dst_port = udp_port;
        words->udp_mask.hdr.dst_port = UINT16_MAX;
    }
    words->pattern[0].type = RTE_FLOW_ITEM_TYPE_ETH;
    words->pattern[1].type = RTE_FLOW_ITEM_TYPE_IPV4;
    words->pattern[1].spec = &words->ipv4;
    words->pattern[1].mask = &words->ipv4_mask;
    if (flow->udp_port != 0) {
        words->pattern[2].type = RTE_FLOW_ITEM_TYPE_UDP;
        words->pattern[2].spec = &words->udp;
        words->pattern[2].mask = &words->udp_mask;
    } else {
        words->ipv4.hdr.next_proto_id = IPPROTO_ESP;
        words->ipv4_mask.hdr.next_proto_id = UINT8_MAX;
        words->pattern[2].type = RTE_FLOW_ITEM_TYPE_END;
    }
    words->pattern[3].type = RTE_FLOW_ITEM_TYPE_END;
    words->queue.index = flow->queue;
    words->actions[0].type = RTE_FLOW_ACTION_TYPE_QUEUE;
    words->actions[0].conf = &words->queue;
    words->actions[1].type = RTE_FLOW_ACTION_TYPE_END;
}

/* What became of a call: its code, and what the driver says in `why`. */
static int flow_told(int code, const struct rte_flow_error *error, char *why, size_t room)
{
    if (code == 0)
        return 0;
    snprintf(why, room, "%s", error->message != NULL ? error->message : "");
    return code < 0 ? code : -EINVAL;
}

int spw_flow_validate(uint16_t port, const struct spw_flow *flow, char *why, size_t room)
{
    struct rte_flow_error error = { 0 };
    struct flow_words words;

    flow_say(&words, flow);
    return flow_told(rte_flow_validate(port, &flow_ingress, words.pattern, words.actions, &error),
                     &error, why, room);
}

int spw_flow_create(uint16_t port, const struct spw_flow *flow, struct rte_flow **rule, char *why,
                    size_t room)
{
    struct rte_flow_error error = { 0 };
    struct flow_words words;

    flow_say(&words, flow);
    rte_errno = 0;
    *rule = rte_flow_create(port, &flow_ingress, words.pattern, words.actions, &error);
    if (*rule != NULL)
        return 0;
    return flow_told(rte_errno != 0 ? -rte_errno : -EINVAL, &error, why, room);
}

int spw_flow_destroy(uint16_t port, struct rte_flow *rule, char *why, size_t room)
{
    struct rte_flow_error error = { 0 };

    return flow_told(rte_flow_destroy(port, rule, &error), &error, why, room);
}

int spw_port_info(uint16_t port, struct spw_port_info *out)
{
    struct rte_ether_addr mac;
    struct rte_eth_dev_info info;
    int error = rte_eth_dev_info_get(port, &info);

    if (error != 0)
        return error;
    memset(out, 0, sizeof(*out));
    if (info.driver_name != NULL)
        snprintf(out->driver, sizeof(out->driver), "%s", info.driver_name);
    if (info.device != NULL)
        snprintf(out->device, sizeof(out->device), "%s", rte_dev_name(info.device));
    if (rte_eth_macaddr_get(port, &mac) == 0)
        memcpy(out->mac, mac.addr_bytes, sizeof(out->mac));
    out->max_rx_queues = info.max_rx_queues;
    out->max_tx_queues = info.max_tx_queues;
    out->rx_queues = info.nb_rx_queues;
    out->tx_queues = info.nb_tx_queues;
    out->min_mtu = info.min_mtu;
    out->max_mtu = info.max_mtu;
    (void)rte_eth_dev_get_mtu(port, &out->mtu);
    out->max_frame = info.max_rx_pktlen;
    out->socket = rte_eth_dev_socket_id(port);
    out->promiscuous = rte_eth_promiscuous_get(port) == 1;
    out->rx_ip_checksum = (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_IPV4_CKSUM) != 0;
    out->rx_l4_checksum = (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_TCP_CKSUM) != 0 &&
                          (info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_UDP_CKSUM) != 0;
    out->tx_ip_checksum = (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM) != 0;
    out->tx_l4_checksum = (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_TCP_CKSUM) != 0 &&
                          (info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_UDP_CKSUM) != 0;
    out->rss_types = info.flow_type_rss_offloads;
    out->reta_places = info.reta_size;
    return 0;
}

int spw_port_link(uint16_t port, struct spw_port_link *out)
{
    struct rte_eth_link link;
    int error;

    memset(&link, 0, sizeof(link));
    error = rte_eth_link_get_nowait(port, &link);
    if (error != 0)
        return error;
    out->up = link.link_status == RTE_ETH_LINK_UP;
    out->full_duplex = link.link_duplex == RTE_ETH_LINK_FULL_DUPLEX;
    out->speed = link.link_speed;
    return 0;
}

int spw_port_stats(uint16_t port, struct spw_port_stats *out)
{
    struct rte_eth_stats stats;
    int error = rte_eth_stats_get(port, &stats);

    if (error != 0)
        return error;
    out->rx_packets = stats.ipackets;
    out->tx_packets = stats.opackets;
    out->rx_octets = stats.ibytes;
    out->tx_octets = stats.obytes;
    out->rx_missed = stats.imissed;
    out->rx_errors = stats.ierrors;
    out->tx_errors = stats.oerrors;
    out->rx_no_buffer = stats.rx_nombuf;
    return 0;
}

int spw_port_xstats(uint16_t port, struct spw_xstat *out, uint32_t room)
{
    int count = rte_eth_xstats_get(port, NULL, 0);

    if (count <= 0 || (uint32_t)count > room)
        return count;
    struct rte_eth_xstat *values = calloc((size_t)count, sizeof(*values));
    struct rte_eth_xstat_name *names = calloc((size_t)count, sizeof(*names));
    int found = -ENOMEM;

    if (values != NULL && names != NULL) {
        found = rte_eth_xstats_get(port, values, (unsigned int)count);
        int named = rte_eth_xstats_get_names(port, names, (unsigned int)count);
        /* The set grew in between: report its new size, the caller asks again. */
        if (found == count && named == count)
            for (int i = 0; i < count; i++) {
                const char *name = values[i].id < (uint64_t)count ? names[values[i].id].name : "";
                snprintf(out[i].name, sizeof(out[i].name), "%s", name);
                out[i].value = values[i].value;
            }
        else if (found >= 0)
            found = -EAGAIN;
    }
    free(values);
    free(names);
    return found;
}

int spw_port_set_promiscuous(uint16_t port, bool on)
{
    return on ? rte_eth_promiscuous_enable(port) : rte_eth_promiscuous_disable(port);
}

int spw_port_set_mtu(uint16_t port, uint16_t mtu)
{
    return rte_eth_dev_set_mtu(port, mtu);
}

uint16_t spw_linearize(struct rte_mbuf **mbufs, uint16_t count, uint64_t *not_linear)
{
    uint16_t kept = 0;

    for (uint16_t i = 0; i < count; i++) {
        struct rte_mbuf *mbuf = mbufs[i];

        if (rte_pktmbuf_linearize(mbuf) == 0) {
            mbufs[kept++] = mbuf;
        } else {
            rte_pktmbuf_free(mbuf);
            (*not_linear)++;
        }
    }
    return kept;
}

uint16_t spw_rx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t room,
                      uint64_t *not_linear)
{
    uint16_t count = rte_eth_rx_burst(port, queue, mbufs, room);
    unsigned int chained = 0;

    for (uint16_t i = 0; i < count; i++)
        chained |= mbufs[i]->nb_segs ^ 1u;
    if (unlikely(chained != 0))
        return spw_linearize(mbufs, count, not_linear);
    return count;
}

uint16_t spw_tx_burst(uint16_t port, uint16_t queue, struct rte_mbuf **mbufs, uint16_t count)
{
    return rte_eth_tx_burst(port, queue, mbufs, count);
}

/*
 * Stands before libc's setsockopt for the whole process, to change one request: DPDK's af_packet
 * driver asks the kernel to put IP fragments together before it hands them over
 * (PACKET_FANOUT_FLAG_DEFRAG), and has no argument to leave that out. The whole datagram is then
 * larger than the driver's frames and cut short, so that it is lost. A port must show fragments
 * as they came: the gateway follows them itself, on whichever queue they arrive.
 */
__attribute__((visibility("default"))) int setsockopt(int fd, int level, int name, const void *value, socklen_t size)
{
	int fanout;

	if (level == SOL_PACKET && name == PACKET_FANOUT && value != NULL && size == sizeof(fanout)) {
		memcpy(&fanout, value, sizeof(fanout));
		fanout = (int)((unsigned int)fanout & ~((unsigned int)PACKET_FANOUT_FLAG_DEFRAG << 16));
		value = &fanout;
	}
	return (int)syscall(SYS_setsockopt, fd, level, name, value, size);
}
