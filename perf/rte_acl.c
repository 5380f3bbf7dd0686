/*
 * Looks the packets of perf/policy up with DPDK's rte_acl: `perf/policy --rte-acl` compiles and runs it.
 * usage: rte_acl FILE, of the format that control/benches/policy/export.rs tells
 *
 * Prints one line: milliseconds to build, megabytes held, and nanoseconds a lookup (median window) of packets that lines are about
 * and of those that none matches, one at a time, each begun when the one before has ended, and 16 at once. As in the program that it is
 * compared with, each hit is counted at its line. Ends with 1 if a packet gets another line than the first that matches.
 *
 * The fields are protocol, source, destination, source ports and destination ports. A TCP packet with ACK or RST has the protocol
 * 0x86, so that `established` needs no field of its own: lines of other protocols leave that bit out of their masks.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <rte_acl.h>
#include <rte_byteorder.h>
#include <rte_eal.h>
#include <rte_malloc.h>

enum { WINDOWS = 200, AT_ONCE = 16, ESTABLISHED = 0x80 };
/* The most that a built list may take, in octets. */
static const size_t MOST = (size_t)2 << 30;

/* A packet as rte_acl reads it: the first field has one octet, the others come in fours. */
struct packet {
	uint8_t protocol;
	uint8_t unused[3];
	uint32_t source, destination;
	uint16_t source_port, destination_port;
};

static struct rte_acl_field_def fields[] = {
	{ RTE_ACL_FIELD_TYPE_BITMASK, 1, 0, 0, offsetof(struct packet, protocol) },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, 1, 1, offsetof(struct packet, source) },
	{ RTE_ACL_FIELD_TYPE_MASK, 4, 2, 2, offsetof(struct packet, destination) },
	{ RTE_ACL_FIELD_TYPE_RANGE, 2, 3, 3, offsetof(struct packet, source_port) },
	{ RTE_ACL_FIELD_TYPE_RANGE, 2, 4, 3, offsetof(struct packet, destination_port) },
};
RTE_ACL_RULE_DEF(rule, RTE_DIM(fields));

static struct rte_acl_ctx *list;
static uint64_t *hits;

static void fail(const char *why)
{
	fprintf(stderr, "rte_acl: %s\n", why);
	exit(1);
}

static void numbers(FILE *file, unsigned *to, int many)
{
	while (many-- > 0)
		if (fscanf(file, "%u", to++) != 1)
			fail("the file ends early");
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static int ascending(const void *one, const void *other)
{
	double difference = *(const double *)one - *(const double *)other;
	return (difference > 0) - (difference < 0);
}

static double median(double *windows)
{
	qsort(windows, WINDOWS, sizeof(*windows), ascending);
	return windows[WINDOWS / 2];
}

/* Octets that DPDK's allocator has given out. */
static size_t held(void)
{
	struct rte_malloc_socket_stats stats = { 0 };
	rte_malloc_get_socket_stats(0, &stats);
	return stats.heap_allocsz_bytes;
}

static unsigned prefix(unsigned dont_care)
{
	return dont_care ? __builtin_clz(dont_care) : 32;
}

static void add_line(const unsigned *n, unsigned line)
{
	struct rule rule = { .data = { .category_mask = 1, .priority = RTE_ACL_MAX_PRIORITY - line, .userdata = line } };

	if ((n[2] & (n[2] + 1)) || (n[4] & (n[4] + 1)))
		fail("a mask is no prefix");
	rule.field[0].value.u8 = n[9] ? n[0] | ESTABLISHED : n[0];
	rule.field[0].mask_range.u8 = n[9] ? 0xff : n[0] ? 0xff & ~ESTABLISHED : 0;
	rule.field[1].value.u32 = n[1];
	rule.field[1].mask_range.u32 = prefix(n[2]);
	rule.field[2].value.u32 = n[3];
	rule.field[2].mask_range.u32 = prefix(n[4]);
	rule.field[3].value.u16 = n[5];
	rule.field[3].mask_range.u16 = n[6];
	rule.field[4].value.u16 = n[7];
	rule.field[4].mask_range.u16 = n[8];
	if (rte_acl_add_rules(list, (struct rte_acl_rule *)&rule, 1))
		fail("a line is refused");
}

/* Nanoseconds a lookup, one at a time. */
static double alone(const struct packet *packets, unsigned many)
{
	double windows[WINDOWS];

	for (int window = 0; window < WINDOWS; window++) {
		uint32_t before = 0;
		double began = now();
		for (unsigned at = 0; at < many; at++) {
			struct packet packet = packets[at];
			const uint8_t *data = (const uint8_t *)&packet;
			uint32_t line;

			/* Zero, which the compiler does not know: the lookup waits for the one before. */
			packet.source ^= before;
			rte_acl_classify(list, &data, &line, 1, 1);
			if (line)
				__atomic_fetch_add(&hits[line], 1, __ATOMIC_RELAXED);
			before = line;
			__asm__ volatile("and $0, %0" : "+r"(before));
		}
		windows[window] = (now() - began) / many;
	}
	return median(windows);
}

/* The same, 16 at once. */
static double together(const struct packet *packets, unsigned many)
{
	double windows[WINDOWS];

	for (int window = 0; window < WINDOWS; window++) {
		double began = now();
		for (unsigned at = 0; at + AT_ONCE <= many; at += AT_ONCE) {
			const uint8_t *data[AT_ONCE];
			uint32_t lines[AT_ONCE];

			for (unsigned i = 0; i < AT_ONCE; i++)
				data[i] = (const uint8_t *)&packets[at + i];
			rte_acl_classify(list, data, lines, AT_ONCE, 1);
			for (unsigned i = 0; i < AT_ONCE; i++)
				if (lines[i])
					__atomic_fetch_add(&hits[lines[i]], 1, __ATOMIC_RELAXED);
		}
		windows[window] = (now() - began) / many;
	}
	return median(windows);
}

int main(int argc, char **argv)
{
	/* Memory in small pages: those of 2 MB would have to be set aside for it. */
	char *options[] = { argv[0], "--no-huge", "-m6144", "--no-shconf", "--no-pci", "--no-telemetry", "--log-level=3", NULL };
	unsigned n[10], size[3], wrong = 0;
	struct rte_acl_config config = { .num_categories = 1, .num_fields = RTE_DIM(fields), .max_size = MOST };
	struct packet *packets;
	size_t before;
	double began, built, single[2], sixteen[2];
	FILE *file;

	if (argc != 2 || !(file = fopen(argv[1], "r")))
		fail("needs a file");
	if (rte_eal_init(RTE_DIM(options) - 1, options) < 0)
		fail("DPDK does not start");
	numbers(file, size, 3);
	hits = calloc(size[0] + 1, sizeof(*hits));
	packets = calloc(size[1] + size[2], sizeof(*packets));
	memcpy(config.defs, fields, sizeof(fields));
	struct rte_acl_param param = { "list", SOCKET_ID_ANY, RTE_ACL_RULE_SZ(RTE_DIM(fields)), size[0] };
	before = held();
	list = rte_acl_create(&param);
	if (!hits || !packets || !list)
		fail("there is no memory for the list");
	for (unsigned line = 1; line <= size[0]; line++) {
		numbers(file, n, 10);
		add_line(n, line);
	}
	began = now();
	if (rte_acl_build(list, &config))
		fail("the list can't be built within 2 GB");
	built = (now() - began) / 1e6;
	for (unsigned at = 0; at < size[1] + size[2]; at++) {
		struct packet *packet = &packets[at];
		const uint8_t *data = (const uint8_t *)packet;
		uint32_t line;

		numbers(file, n, 7);
		packet->protocol = n[5] ? n[0] | ESTABLISHED : n[0];
		packet->source = rte_cpu_to_be_32(n[1]);
		packet->destination = rte_cpu_to_be_32(n[2]);
		packet->source_port = rte_cpu_to_be_16(n[3]);
		packet->destination_port = rte_cpu_to_be_16(n[4]);
		rte_acl_classify(list, &data, &line, 1, 1);
		wrong += line != n[6];
	}
	for (int kind = 0; kind < 2; kind++) {
		const struct packet *first = packets + (kind ? size[1] : 0);
		single[kind] = alone(first, size[1 + kind]);
		sixteen[kind] = together(first, size[1 + kind]);
	}
	printf("built in %.0f ms, %.1f MB | found %.0f ns, 16 at once %.0f | denied %.0f ns, 16 at once %.0f | %u of %u packets get another line\n",
		built, (held() - before) / 1e6, single[0], sixteen[0], single[1], sixteen[1], wrong, size[1] + size[2]);
	return wrong != 0;
}
