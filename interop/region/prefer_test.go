package region

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"interop/program"

	"tailscale.com/net/netcheck"
	"tailscale.com/net/netmon"
	"tailscale.com/tailcfg"
	"tailscale.com/types/logger"
)

// farAway is how much longer STUN takes to the region that is to be preferred: far more than a
// busy machine adds on loopback, far less than netcheck waits.
const farAway = 500 * time.Millisecond

// TestOwnRegionIsPreferred: a real client makes the nearer region of others its home, and ours as
// soon as the bridge publishes theirs with NoMeasureNoHome.
func TestOwnRegionIsPreferred(t *testing.T) {
	near, far := startRegion(t), startRegion(t)
	upstream := serveAsRegion1(t, near.fetchMap(t))
	own := far.fetchMap(t).Regions[999].Nodes[0]
	own.STUNPort = slowly(t, own.STUNPort)

	for prefer, home := range map[bool]int{false: 1, true: 999} {
		t.Run(fmt.Sprintf("prefer_own=%v", prefer), func(t *testing.T) {
			published := serveMap(t, own, upstream, prefer)
			if got := published.Regions[1].NoMeasureNoHome; got != prefer {
				t.Fatalf("NoMeasureNoHome is %v", got)
			}
			report := check(t, published, home)
			if _, measured := report.RegionLatency[1]; measured == prefer {
				t.Errorf("region 1 measured: %v: %v", measured, report)
			}
			if report.RegionLatency[999] < farAway {
				t.Errorf("region 999 is not far away, so that nothing is shown: %v", report)
			}
			if report.PreferredDERP != home {
				t.Errorf("home is %d, not %d: %v", report.PreferredDERP, home, report)
			}
		})
	}
}

// serveAsRegion1 publishes the map of a region 999 as somebody else's region 1.
func serveAsRegion1(t *testing.T, derpMap *tailcfg.DERPMap) string {
	t.Helper()
	region := derpMap.Regions[999]
	region.RegionID, region.Nodes[0].RegionID, region.Nodes[0].Name = 1, 1, "1a"
	theirs := &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{1: region}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(theirs)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// serveMap runs a bridge with this node of its own beside the map at upstream, and returns what it
// publishes once both are in it.
func serveMap(t *testing.T, own *tailcfg.DERPNode, upstream string, prefer bool) *tailcfg.DERPMap {
	t.Helper()
	config := fmt.Sprintf(`map_listen = "127.0.0.1:0"
state_dir = %q
[provisioning]
listen = "127.0.0.1:0"
[[region.nodes]]
hostname = %q
ipv4 = %q
ipv6 = "none"
cert_name = %q
derp_port = %d
stun_port = %d
[[upstreams]]
url = %q
prefer_own = %v
`, t.TempDir(), own.HostName, own.IPv4, own.CertName, own.DERPPort, own.STUNPort, upstream, prefer)
	bridge := &region{Program: program.Start(t, "INTEROP_COORD_BRIDGE", "serve",
		"--config", program.Write(t, "bridge.toml", config))}
	for giveUp := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		published := bridge.fetchMap(t)
		if published.Regions[999] == nil {
			t.Fatal("region 999 is gone")
		}
		if published.Regions[1] != nil {
			return published
		}
		if time.Now().After(giveUp) {
			t.Fatalf("no region 1:\n%s", bridge.Output())
		}
	}
}

// slowly passes STUN on to a port on loopback, later. Returns where.
func slowly(t *testing.T, to int) int {
	t.Helper()
	outside, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { outside.Close() })
	go func() {
		for {
			datagram := make([]byte, 2048)
			n, from, err := outside.ReadFrom(datagram)
			if err != nil {
				return
			}
			go func() {
				inside, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", to))
				if err != nil {
					return
				}
				defer inside.Close()
				inside.SetDeadline(time.Now().Add(10 * time.Second))
				time.Sleep(farAway)
				inside.Write(datagram[:n])
				answer := make([]byte, 2048)
				if n, err := inside.Read(answer); err == nil {
					outside.WriteTo(answer[:n], from)
				}
			}()
		}
	}()
	return program.Port(t, outside.LocalAddr().String())
}

// check is a report of a real client that has just started.
func check(t *testing.T, derpMap *tailcfg.DERPMap, home int) *netcheck.Report {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	// A report is cut after a few seconds, which a busy machine may need for more than this.
	for tries := 1; ; tries++ {
		client := &netcheck.Client{NetMon: netmon.NewStatic(), Logf: logger.Discard, SkipExternalNetwork: true}
		if err := client.Standalone(ctx, ""); err != nil {
			t.Fatal(err)
		}
		report, err := client.GetReport(ctx, derpMap, nil)
		if err != nil {
			t.Fatal(err)
		}
		if report.PreferredDERP == home && report.RegionLatency[999] != 0 || tries == 5 {
			return report
		}
	}
}
