// Package relay tests derp-relay with the client libraries that every Tailscale node is made of.
package relay

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"interop/program"

	"tailscale.com/derp"
	"tailscale.com/derp/derphttp"
	"tailscale.com/net/netcheck"
	"tailscale.com/net/netmon"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
	"tailscale.com/types/logger"
)

// hosts are the loopback addresses of both families; every test runs on both.
var hosts = []string{"127.0.0.1", "::1"}

// patience is how long a client waits for one frame.
const patience = time.Minute

// TestClientsByPinnedTLS: DERP-1.3, DERP-1.4: derphttp trusts the pin, finds the meta certificate,
// starts fast, and two clients reach each other in both directions.
func TestClientsByPinnedTLS(t *testing.T) {
	for _, host := range hosts {
		t.Run(host, func(t *testing.T) {
			relay := start(t, host, "--access", "open", "--tls", "self-signed", "--hostname", host)
			one, two := relay.client(t, key.NewNode()), relay.client(t, key.NewNode())
			exchange(t, one, two)
			if got := relay.metric(t, "derp_fast_starts"); got != 2 {
				t.Errorf("%v of 2 clients started fast", got)
			}
		})
	}
}

// TestClientsByPlainHTTP: DERP-1.5: behind a proxy the relay speaks plain HTTP and answers 101.
func TestClientsByPlainHTTP(t *testing.T) {
	for _, host := range hosts {
		t.Run(host, func(t *testing.T) {
			relay := start(t, host, "--access", "open", "--tls", "off")
			url := "http://" + relay.Field("derp") + "/derp"
			one, two := plainClient(t, url), plainClient(t, url)
			exchange(t, one, two)
			if got := relay.metric(t, "derp_fast_starts"); got != 0 {
				t.Errorf("%v clients started fast without TLS", got)
			}
		})
	}
}

// TestAWrongPinIsNoticed: what the client checks is what the relay shows, and nothing else.
func TestAWrongPinIsNoticed(t *testing.T) {
	for _, host := range hosts {
		t.Run(host, func(t *testing.T) {
			relay := start(t, host, "--access", "open", "--tls", "self-signed", "--hostname", host)
			region := relay.region(t)
			region.Nodes[0].CertName = "sha256-raw:" + strings.Repeat("0", 64)
			client := regionClient(t, key.NewNode(), region)
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := client.Connect(ctx); err == nil {
				t.Error("connected to a certificate with another pin")
			}
		})
	}
}

// TestLargestPacketByRealClient: DERP-2.3, check-F10.
func TestLargestPacketByRealClient(t *testing.T) {
	for _, host := range hosts {
		t.Run(host, func(t *testing.T) {
			relay := start(t, host, "--access", "open", "--tls", "self-signed", "--hostname", host)
			one, two := relay.client(t, key.NewNode()), relay.client(t, key.NewNode())
			largest := bytes.Repeat([]byte{0x5a}, derp.MaxPacketSize)
			send(t, one, two, largest)
		})
	}
}

// TestPeersLearnOfDepartures: DERP-6.2, DERP-6.3, check-P10, fault-D8: each time, not only once.
func TestPeersLearnOfDepartures(t *testing.T) {
	for _, host := range hosts {
		t.Run(host, func(t *testing.T) {
			relay := start(t, host, "--access", "open", "--tls", "self-signed", "--hostname", host, "--shards", "2")
			stays, leaves := relay.client(t, key.NewNode()), key.NewNode()
			for range 3 {
				client := relay.client(t, leaves)
				send(t, client, stays, []byte("hi"))
				client.Close()
				gone, ok := receive(t, stays).(derp.PeerGoneMessage)
				if !ok || gone.Peer != leaves.Public() || gone.Reason != derp.PeerGoneReasonDisconnected {
					t.Fatalf("got %#v", gone)
				}
			}
		})
	}
}

// TestAStrangerIsRefused: DERP-8.3: only a node on the allow-list gets in.
func TestAStrangerIsRefused(t *testing.T) {
	for _, host := range hosts {
		t.Run(host, func(t *testing.T) {
			friend := key.NewNode()
			list := program.Write(t, "allowed", friend.Public().String()+"\n")
			relay := start(t, host, "--access", "allow-list", "--allow-list", list,
				"--tls", "self-signed", "--hostname", host)
			relay.client(t, friend)

			stranger := regionClient(t, key.NewNode(), relay.region(t))
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			// Connect itself sends the login and awaits nothing; the first frame is the answer.
			if err := stranger.Connect(ctx); err == nil {
				if frame, err := stranger.Recv(); err == nil {
					t.Errorf("a stranger got %#v", frame)
				}
			}
			relay.counts(t, `derp_access{outcome="denied"}`)
		})
	}
}

// TestNetcheckByUDP: STUN gives the region a latency and the node its address.
func TestNetcheckByUDP(t *testing.T) {
	for _, host := range hosts {
		t.Run(host, func(t *testing.T) {
			relay := start(t, host, "--access", "open", "--tls", "self-signed", "--hostname", host)
			report := relay.netcheck(t, relay.region(t))
			if !report.UDP {
				t.Errorf("no answer by UDP: %v", report)
			}
			if report.PreferredDERP != 999 || report.RegionLatency[999] == 0 {
				t.Errorf("region 999 is not measured: %v", report)
			}
			relay.counts(t, `stun_requests{disposition="success"}`)
		})
	}
}

// TestNetcheckByHTTPS: DERP-9.3: without UDP, /derp/latency-check gives the region its latency.
func TestNetcheckByHTTPS(t *testing.T) {
	for _, host := range hosts {
		t.Run(host, func(t *testing.T) {
			// A name, since netcheck puts an IPv6 address into its URL without brackets.
			relay := start(t, host, "--access", "open", "--tls", "self-signed", "--hostname", "derp.example.org")
			region := relay.region(t)
			region.Nodes[0].HostName = "derp.example.org"
			region.Nodes[0].STUNPort = -1
			report := relay.netcheck(t, region)
			if report.UDP || report.PreferredDERP != 999 || report.RegionLatency[999] == 0 {
				t.Errorf("region 999 is not measured by HTTPS alone: %v", report)
			}
			relay.counts(t, `derp_http_requests{endpoint="probe"}`)
		})
	}
}

// relay is a running derp-relay on one address.
type relay struct {
	*program.Program
	host string
}

func start(t *testing.T, host string, args ...string) *relay {
	t.Helper()
	any := net.JoinHostPort(host, "0")
	args = append([]string{"serve", "--key-file", t.TempDir() + "/derp.key",
		"--listen-derp", any, "--listen-stun", any, "--listen-metrics", any,
		"--listen-http", "none"}, args...)
	return &relay{program.Start(t, "INTEROP_DERP_RELAY", args...), host}
}

func (r *relay) metric(t *testing.T, name string) float64 {
	t.Helper()
	return program.Metric(t, r.Field("metrics"), name)
}

// counts holds that a counter comes to be more than 0: some are published behind the answer.
func (r *relay) counts(t *testing.T, name string) {
	t.Helper()
	for giveUp := time.Now().Add(patience); r.metric(t, name) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(giveUp) {
			t.Fatalf("%s is 0", name)
		}
	}
}

func (r *relay) region(t *testing.T) *tailcfg.DERPRegion {
	t.Helper()
	node := &tailcfg.DERPNode{
		Name:     "999a",
		RegionID: 999,
		HostName: r.host,
		IPv4:     "none",
		IPv6:     "none",
		CertName: r.After("CertName: "),
		DERPPort: program.Port(t, r.Field("derp")),
		STUNPort: program.Port(t, r.Field("stun")),
	}
	if strings.Contains(r.host, ":") {
		node.IPv6 = r.host
	} else {
		node.IPv4 = r.host
	}
	return &tailcfg.DERPRegion{RegionID: 999, RegionCode: "own", Nodes: []*tailcfg.DERPNode{node}}
}

// client is a real client, logged in by TLS.
func (r *relay) client(t *testing.T, private key.NodePrivate) *derphttp.Client {
	t.Helper()
	client := regionClient(t, private, r.region(t))
	login(t, client)
	return client
}

func regionClient(t *testing.T, private key.NodePrivate, region *tailcfg.DERPRegion) *derphttp.Client {
	t.Helper()
	client := derphttp.NewRegionClient(private, logger.Discard, netmon.NewStatic(),
		func() *tailcfg.DERPRegion { return region })
	t.Cleanup(func() { client.Close() })
	return client
}

func plainClient(t *testing.T, url string) *derphttp.Client {
	t.Helper()
	client, err := derphttp.NewClient(key.NewNode(), url, logger.Discard, netmon.NewStatic())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	login(t, client)
	return client
}

func login(t *testing.T, client *derphttp.Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := client.Connect(ctx); err != nil {
		t.Fatal(err)
	}
	if info, ok := receive(t, client).(derp.ServerInfoMessage); !ok {
		t.Fatalf("the first frame is %#v", info)
	}
}

func exchange(t *testing.T, one, two *derphttp.Client) {
	t.Helper()
	send(t, one, two, []byte("there"))
	send(t, two, one, []byte("and back"))
	send(t, one, one, []byte("to myself"))
}

func send(t *testing.T, from, to *derphttp.Client, packet []byte) {
	t.Helper()
	if err := from.Send(to.SelfPublicKey(), packet); err != nil {
		t.Fatal(err)
	}
	got, ok := receive(t, to).(derp.ReceivedPacket)
	if !ok || got.Source != from.SelfPublicKey() || !bytes.Equal(got.Data, packet) {
		t.Fatalf("got %#v", got)
	}
}

func receive(t *testing.T, client *derphttp.Client) derp.ReceivedMessage {
	t.Helper()
	type result struct {
		frame derp.ReceivedMessage
		err   error
	}
	came := make(chan result, 1)
	go func() {
		frame, err := client.Recv()
		came <- result{frame, err}
	}()
	select {
	case r := <-came:
		if r.err != nil {
			t.Fatal(r.err)
		}
		return r.frame
	case <-time.After(patience):
		t.Fatal("no frame comes")
		return nil
	}
}

func (r *relay) netcheck(t *testing.T, region *tailcfg.DERPRegion) *netcheck.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	client := &netcheck.Client{NetMon: netmon.NewStatic(), Logf: logger.Discard, SkipExternalNetwork: true}
	if err := client.Standalone(ctx, ""); err != nil {
		t.Fatal(err)
	}
	derpMap := &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{999: region}}
	// A report is cut after a few seconds, which a busy machine may need for more than this.
	for tries := 1; ; tries++ {
		report, err := client.GetReport(ctx, derpMap, nil)
		if err != nil {
			t.Fatal(fmt.Errorf("netcheck: %w", err))
		}
		byUDP := region.Nodes[0].STUNPort != -1
		if report.RegionLatency[999] != 0 && report.UDP == byUDP || tries == 5 {
			return report
		}
	}
}
