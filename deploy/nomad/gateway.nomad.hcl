# A gateway at ports 80 and 443: nomad job run deploy/nomad/gateway.nomad.hcl
#
# First, once: nomad var put nomad/jobs/weft-gateway join_token=TOKEN, with the token that
# `weft token create -n edge --service-account gateway` prints. The identity is kept on the host volume weft-gateway, which
# the user 65532 must be able to write, and renewed after that. Its Gateway documents select the label istio=ingressgateway.
variable "image" {
  type    = string
  default = "weft"
}

job "weft-gateway" {
  type = "service"

  group "gateway" {
    count = 1

    network {
      mode = "bridge"
      port "http" {
        static = 80
        to     = 8080
      }
      port "https" {
        static = 443
        to     = 8443
      }
      port "admin" {
        to = 15000
      }
    }

    volume "state" {
      type   = "host"
      source = "weft-gateway"
    }

    service {
      name     = "weft-proxy-admin"
      provider = "nomad"
      port     = "admin"
      check {
        type     = "http"
        path     = "/ready"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "gateway" {
      driver = "docker"
      user   = "65532:65532"

      template {
        destination = "secrets/join-token"
        perms       = "0444"
        data        = "{{ with nomadVar \"nomad/jobs/weft-gateway\" }}{{ .join_token }}{{ end }}"
      }

      template {
        destination = "local/control.env"
        env         = true
        data        = "{{ range nomadService \"weft-control\" }}WEFT_CONTROL=https://{{ .Address }}:{{ .Port }}\n{{ end }}"
      }

      config {
        image = var.image
        ports = ["http", "https", "admin"]
        args = [
          "proxy", "--gateway",
          "--namespace", "edge",
          "--workload", "gateway",
          "--label", "istio=ingressgateway",
          "--port", "80=8080",
          "--port", "443=8443",
          "--admin-bind", "0.0.0.0:15000",
          "--data-dir", "/var/lib/weft",
          "--join-token-file", "/secrets/join-token",
          "--drain-grace", "10s"
        ]
      }

      volume_mount {
        volume      = "state"
        destination = "/var/lib/weft"
      }

      resources {
        cpu    = 500
        memory = 256
      }

      # The grace, 30 s for open requests, and a little.
      kill_timeout = "45s"
    }
  }
}
