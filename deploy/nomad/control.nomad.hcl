# The control plane on Nomad, with its state on the host volume weft-control, which the user 65532 must be able to write: nomad job run deploy/nomad/control.nomad.hcl
#
# People reach it where it runs: nomad alloc exec -task control ALLOCATION `weft status`
variable "image" {
  type    = string
  default = "weft"
}

job "weft-control" {
  type = "service"

  group "control" {
    # Its state is in one place, and a second one would be another mesh.
    count = 1

    network {
      mode = "bridge"
      port "tls" {
        static = 15012
        to     = 15012
      }
    }

    volume "state" {
      type   = "host"
      source = "weft-control"
    }

    service {
      name     = "weft-control"
      provider = "nomad"
      port     = "tls"
      check {
        type     = "tcp"
        interval = "10s"
        timeout  = "2s"
      }
    }

    task "control" {
      driver = "docker"
      user   = "65532:65532"

      config {
        image = var.image
        ports = ["tls"]
        args  = ["control", "--data-dir", "/var/lib/weft"]
      }

      volume_mount {
        volume      = "state"
        destination = "/var/lib/weft"
      }

      resources {
        cpu    = 500
        memory = 512
      }

      kill_timeout = "15s"
    }
  }
}
