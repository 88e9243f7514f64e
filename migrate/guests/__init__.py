"""The implementations of migrate.guest.Guest: in memory, in a folder, in the libguestfs appliance, in the overlay room."""
