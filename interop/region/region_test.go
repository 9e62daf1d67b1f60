// Package region tests the whole: Tailscale's own nodes, joined through Tailscale's own test
// control server, with our relay as their only path to each other.
package region

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"interop/program"

	"tailscale.com/tailcfg"
	"tailscale.com/tsnet"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/logger"
)

// transferred is how much the nodes send through the relay.
const transferred = 32 << 20

// TestTwoNodesThroughRegion999 is first light: two unmodified nodes, whose DERP map comes from
// coord-bridge, move 32 MiB through region 999 with the direct path off.
func TestTwoNodesThroughRegion999(t *testing.T) {
	region := startRegion(t)
	derpMap := region.fetchMap(t)
	control, code := startControl(t, derpMap), derpMap.Regions[999].RegionCode
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()

	one, two := startNode(t, ctx, control, "one"), startNode(t, ctx, control, "two")
	addressOfTwo := address(t, ctx, two)

	ping(t, ctx, one, addressOfTwo)
	relayedOnly(t, ctx, code, one, two)
	before := region.bytesSent(t)
	transfer(t, ctx, one, two, addressOfTwo, func() { relayedOnly(t, ctx, code, one, two) })
	relayedOnly(t, ctx, code, one, two)
	if grown := region.bytesSent(t) - before; grown < transferred {
		t.Errorf("the relay passed %.0f bytes, of at least %d", grown, transferred)
	}
}

// TestNodesComeBackAfterTheRelayRestarts: killed, and started again with the same key and port.
func TestNodesComeBackAfterTheRelayRestarts(t *testing.T) {
	region := startRegion(t)
	derpMap := region.fetchMap(t)
	control, code := startControl(t, derpMap), derpMap.Regions[999].RegionCode
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute)
	defer cancel()
	one, two := startNode(t, ctx, control, "one"), startNode(t, ctx, control, "two")
	addressOfTwo := address(t, ctx, two)
	ping(t, ctx, one, addressOfTwo)

	region.Kill()
	region.start(t)

	ping(t, ctx, one, addressOfTwo)
	ping(t, ctx, two, address(t, ctx, one))
	relayedOnly(t, ctx, code, one, two)
}

// region is the whole in one process: relay and map.
type region struct {
	*program.Program
	args []string
}

func startRegion(t *testing.T) *region {
	t.Helper()
	if os.Getenv("TS_DEBUG_ALWAYS_USE_DERP") != "true" {
		t.Skip("TS_DEBUG_ALWAYS_USE_DERP=true must be set before the tests start, or the nodes talk directly")
	}
	any := "127.0.0.1:0"
	r := &region{args: []string{"dev", "--state-dir", t.TempDir(),
		"--listen-derp", quietAddress(t), "--listen-stun", quietAddress(t), "--map-listen", any,
		"--listen-http", any, "--listen-metrics", any, "--provisioning-listen", any}}
	r.start(t)
	return r
}

// start also starts it again: at the same place, with what it has kept.
func (r *region) start(t *testing.T) {
	t.Helper()
	r.Program = program.Start(t, "INTEROP_COORD_BRIDGE", r.args...)
}

func quietAddress(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(program.QuietPort(t)))
}

func (r *region) fetchMap(t *testing.T) *tailcfg.DERPMap {
	t.Helper()
	answer, err := http.Get("http://" + r.Field("map") + "/derpmap.json")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	derpMap := new(tailcfg.DERPMap)
	if err := json.NewDecoder(answer.Body).Decode(derpMap); err != nil {
		t.Fatal(err)
	}
	return derpMap
}

func (r *region) bytesSent(t *testing.T) float64 {
	t.Helper()
	return program.Metric(t, r.Field("metrics"), "derp_bytes_sent")
}

func startControl(t *testing.T, derpMap *tailcfg.DERPMap) string {
	t.Helper()
	control := &testcontrol.Server{
		DERPMap:          derpMap,
		AllNodesSameUser: true,
		Logf:             logger.Discard,
	}
	control.HTTPTestServer = httptest.NewUnstartedServer(control)
	control.HTTPTestServer.Start()
	t.Cleanup(control.HTTPTestServer.Close)
	return control.HTTPTestServer.URL
}

func startNode(t *testing.T, ctx context.Context, control, name string) *tsnet.Server {
	t.Helper()
	node := &tsnet.Server{
		Dir:        t.TempDir(),
		Hostname:   name,
		ControlURL: control,
		Ephemeral:  true,
		Logf:       logger.Discard,
	}
	t.Cleanup(func() { node.Close() })
	if _, err := node.Up(ctx); err != nil {
		t.Fatalf("%s does not join: %v", name, err)
	}
	return node
}

func address(t *testing.T, ctx context.Context, node *tsnet.Server) netip.Addr {
	t.Helper()
	client, err := node.LocalClient()
	if err != nil {
		t.Fatal(err)
	}
	status, err := client.StatusWithoutPeers(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return status.TailscaleIPs[0]
}

// ping tries until an answer has come through region 999.
func ping(t *testing.T, ctx context.Context, from *tsnet.Server, to netip.Addr) {
	t.Helper()
	client, err := from.LocalClient()
	if err != nil {
		t.Fatal(err)
	}
	for {
		try, cancel := context.WithTimeout(ctx, 3*time.Second)
		answer, err := client.Ping(try, to, tailcfg.PingDisco)
		cancel()
		if err == nil && answer.Err == "" {
			if answer.DERPRegionID != 999 {
				t.Fatalf("the ping came by region %d (%s), endpoint %q", answer.DERPRegionID, answer.DERPRegionCode, answer.Endpoint)
			}
			return
		}
		if ctx.Err() != nil {
			t.Fatalf("no ping got through: %v", err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// relayedOnly holds that each of two nodes sees the other through region 999 alone.
func relayedOnly(t *testing.T, ctx context.Context, code string, nodes ...*tsnet.Server) {
	t.Helper()
	for _, node := range nodes {
		client, err := node.LocalClient()
		if err != nil {
			t.Fatal(err)
		}
		status, err := client.Status(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(status.Peer) != 1 {
			t.Fatalf("%s has %d peers", node.Hostname, len(status.Peer))
		}
		for _, peer := range status.Peer {
			if peer.CurAddr != "" || peer.Relay != code {
				t.Errorf("%s sees its peer at %q, relay %q", node.Hostname, peer.CurAddr, peer.Relay)
			}
		}
	}
}

// transfer sends random bytes from one node to another and compares checksums.
func transfer(t *testing.T, ctx context.Context, from, to *tsnet.Server, at netip.Addr, halfway func()) {
	t.Helper()
	listener, err := to.Listen("tcp", ":7000")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	received := make(chan [sha256.Size]byte, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		sum := sha256.New()
		if _, err := io.Copy(sum, conn); err == nil {
			received <- [sha256.Size]byte(sum.Sum(nil))
		}
	}()

	conn, err := from.Dial(ctx, "tcp", net.JoinHostPort(at.String(), "7000"))
	if err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	sum := sha256.New()
	source := io.LimitReader(rand.NewChaCha8([32]byte{9, 9, 9}), transferred)
	if _, err := io.CopyN(io.MultiWriter(conn, sum), source, transferred/2); err != nil {
		t.Fatal(err)
	}
	halfway()
	if _, err := io.Copy(io.MultiWriter(conn, sum), source); err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-received:
		if got != [sha256.Size]byte(sum.Sum(nil)) {
			t.Error("the checksum differs")
		}
	case <-ctx.Done():
		t.Fatal("the transfer does not end")
	}
	t.Logf("%d MiB in %v", transferred>>20, time.Since(started).Round(time.Millisecond))
}
